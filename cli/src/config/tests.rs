use super::*;
use serde_json::Value;

const CLOUDS: &str = "
clouds:
  red:
    auth:
      auth_url: http://red:9696/v3
      username: red
      password: from-file
      project_name: red
    region_name: RegionOne
    identity_api_version: 3
    compute_api_version: 2.1
  bot:
    auth_type: v3applicationcredential
    auth: {auth_url: 'https://red:5000', application_credential_id: abc}
    verify: no
";

/// Directories that go with it.
struct Place {
    root: PathBuf,
    variables: BTreeMap<String, String>,
}

impl Place {
    fn new(name: &str) -> Self {
        let root = std::env::temp_dir().join(format!("mz-config-{name}-{}", std::process::id()));
        for dir in ["work", "home/.config/openstack", "site"] {
            std::fs::create_dir_all(root.join(dir)).expect("a directory");
        }
        let home = root.join("home").display().to_string();
        Self { root, variables: BTreeMap::from([("HOME".into(), home)]) }
    }

    fn write(&self, path: &str, text: &str) {
        std::fs::write(self.root.join(path), text).expect("a file");
    }

    fn set(mut self, pairs: &[(&str, &str)]) -> Self {
        self.variables.extend(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        self
    }

    fn find(&self, cloud: Option<&str>) -> Result<Found, Problem> {
        let choice = Choice { cloud: cloud.map(str::to_owned), ..Choice::default() };
        self.chosen(&choice)
    }

    fn chosen(&self, choice: &Choice) -> Result<Found, Problem> {
        let around = Surroundings {
            variables: self.variables.clone(),
            directory: self.root.join("work"),
            site: self.root.join("site"),
        };
        find(choice, &around)
    }

    fn refusal(&self, cloud: &str) -> String {
        let problem = self.find(Some(cloud)).expect_err("it is wrong");
        assert_eq!(problem.exit, Exit::Usage);
        problem.to_string().replace(&format!("{}/", self.root.display()), "")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn request(found: &Found) -> Value {
    found.access.credentials.request()["auth"].clone()
}

const ENVIRONMENT: [(&str, &str); 4] = [
    ("OS_AUTH_URL", "http://env:5000/v3/"),
    ("OS_USERNAME", "eve"),
    ("OS_PASSWORD", "from-env"),
    ("OS_PROJECT_NAME", "env"),
];

#[test]
fn the_first_file_of_the_search_order_counts() {
    let place = Place::new("order");
    for path in ["site/clouds.yaml", "home/.config/openstack/clouds.yaml", "work/clouds.yaml"] {
        let directory = path.trim_end_matches("/clouds.yaml");
        place.write(path, &CLOUDS.replace("http://red:9696", &format!("http://{directory}")));
        let found = place.find(Some("red")).expect("it is there");
        assert_eq!(found.access.identity, format!("http://{directory}"), "later in this list is earlier in the search");
    }
    place.write("work/other.yaml", &CLOUDS.replace("http://red:9696", "http://named"));
    let place = place.set(&[("OS_CLIENT_CONFIG_FILE", "other.yaml")]);
    assert_eq!(place.find(Some("red")).expect("it is named").access.identity, "http://named");
    let place = place.set(&[("OS_CLIENT_CONFIG_FILE", "gone.yaml")]);
    assert!(place.refusal("red").starts_with("work/gone.yaml: "), "a named file must be there");
}

#[test]
fn a_named_cloud_counts_before_the_environment_and_the_flag_before_the_variable() {
    let place = Place::new("named");
    place.write("work/clouds.yaml", CLOUDS);
    let place = place.set(&ENVIRONMENT);
    assert_eq!(place.find(None).expect("OS_*").source, Source::Environment);
    let red = place.find(Some("red")).expect("of the file");
    assert_eq!(request(&red)["identity"]["password"]["user"]["password"], "from-file");
    assert_eq!(red.access.credentials.who(), "red in project red");
    let place = place.set(&[("OS_CLOUD", "bot"), ("OS_APPLICATION_CREDENTIAL_SECRET", "s3cret")]);
    assert_eq!(place.find(Some("red")).expect("the flag").access.credentials.who(), "red in project red");
    let bot = place.find(None).expect("OS_CLOUD");
    assert_eq!(bot.access.identity, "https://red:5000");
    assert!(bot.access.trust.insecure);
    let identity = &request(&bot)["identity"];
    assert_eq!(identity["application_credential"], serde_json::json!({"id": "abc", "secret": "s3cret"}));
    assert_eq!(request(&bot).get("scope"), None, "its project is its own");
}

#[test]
fn a_cloud_takes_a_secret_of_the_environment_only_if_it_has_none() {
    let place = Place::new("secrets");
    place.write("work/clouds.yaml", &CLOUDS.replace("      password: from-file\n", ""));
    assert_eq!(place.refusal("red"), "work/clouds.yaml: clouds.red.auth.password: missing");
    place.write("work/secure.yaml", "clouds: {red: {auth: {password: secure}}}");
    let password = |place: &Place| {
        request(&place.find(Some("red")).expect("complete"))["identity"]["password"]["user"]["password"].clone()
    };
    assert_eq!(password(&place), "secure");
    std::fs::remove_file(place.root.join("work/secure.yaml")).expect("it was there");
    let place = place.set(&ENVIRONMENT);
    assert_eq!(password(&place), "from-env");
}

#[test]
fn flags_replace_the_project() {
    let place = Place::new("project").set(&ENVIRONMENT);
    let scope = |choice: &Choice| request(&place.chosen(choice).expect("complete"))["scope"]["project"].clone();
    assert_eq!(scope(&Choice::default())["name"], "env");
    assert_eq!(scope(&Choice { project_name: Some("p".into()), ..Choice::default() })["name"], "p");
    let by_id = scope(&Choice { project_id: Some("1".into()), ..Choice::default() });
    assert_eq!(by_id, serde_json::json!({"id": "1"}));
}

#[test]
fn the_only_cloud_needs_no_name_and_several_are_listed() {
    let place = Place::new("only");
    let nothing = place.find(None).expect_err("there is nothing");
    assert!(nothing.to_string().contains("no cloud is known"));
    place.write("work/clouds.yaml", "clouds: {one: {auth: {auth_url: 'http://x', username: u, password: p}}}");
    assert_eq!(place.find(None).expect("the only one").access.identity, "http://x");
    place.write("work/clouds.yaml", CLOUDS);
    assert!(place.find(None).expect_err("which?").to_string().contains("no cloud is named"));
}

#[test]
fn errors_name_the_file_and_the_field_and_no_value() {
    let place = Place::new("strict");
    for (text, said) in [
        (
            "clouds: {c: {auth: {auth_url: 'http://x', passwd: hunter2}}}",
            "clouds.c.auth.passwd: there is no such setting",
        ),
        (
            "clouds: {c: {auth: {auth_url: 'http://x', username: u, password: 0123}}}",
            "clouds.c.auth.password: must be text",
        ),
        (
            "clouds: {c: {auth: {auth_url: 'ftp://x', username: u, password: p}}}",
            "clouds.c.auth.auth_url: `ftp://x` must begin with http:// or https://",
        ),
        ("clouds: {c: {auth: {username: u, password: p}}}", "clouds.c.auth.auth_url: missing"),
        ("clouds: {c: {auth: {auth_url: 'http://x', password: p}}}", "clouds.c.auth.username: missing"),
        ("clouds: {c: {auht: {auth_url: 'http://x'}}}", "clouds.c.auht: there is no such setting"),
        ("clouds: {c: {auth: 7}}", "clouds.c.auth: must be a block of settings"),
        ("clouds: {c: {profile: vendor}}", "clouds.c.profile: vendors' profiles are not known here"),
        (
            "clouds: {c: {auth_type: v2password, auth: {auth_url: 'http://x'}}}",
            "clouds.c.auth_type: `v2password` is not known",
        ),
        (
            "clouds: {c: {interface: outside, auth: {auth_url: 'http://x'}}}",
            "clouds.c.interface: `outside` is not public, internal or admin",
        ),
        (
            "clouds: {c: {identity_api_version: 2, auth: {auth_url: 'http://x'}}}",
            "clouds.c.identity_api_version: 2 is not spoken here, only 3",
        ),
        (
            "clouds: {c: {verify: perhaps, auth: {auth_url: 'http://x'}}}",
            "clouds.c.verify: `perhaps` is neither true nor false",
        ),
        ("clouds: {c: {cert: a.pem, auth: {auth_url: 'http://x'}}}", "clouds.c.key: missing"),
        ("clouds: {d: {}}", "there is no cloud c"),
        ("clouds: [c]", "clouds: must be a block with a name per cloud"),
        ("cloud: {}", "clouds: missing"),
    ] {
        place.write("work/clouds.yaml", text);
        assert_eq!(place.refusal("c"), format!("work/clouds.yaml: {said}"), "{text}");
    }
    for text in ["clouds: {c: {auth: {password: hunter2", "clouds:\n  c: {}\n  c: {auth: {password: hunter2}}\n"] {
        place.write("work/clouds.yaml", text);
        let said = place.refusal("c");
        assert!(said.starts_with("work/clouds.yaml: not YAML, or a name twice") && !said.contains("hunter2"), "{said}");
    }
}

#[test]
fn errors_of_the_environment_name_the_variable() {
    let place = Place::new("env").set(&[("OS_AUTH_URL", "http://x"), ("OS_USERNAME", "u"), ("OS_PASSWORD", "")]);
    assert_eq!(place.find(None).expect_err("no password").to_string(), "OS_PASSWORD: missing");
}
