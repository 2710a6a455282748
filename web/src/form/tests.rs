//! What forms send, and what becomes of it.

use super::*;
use crate::resource::declared;

fn fields(path: &'static str) -> Vec<&'static Field> {
    declared(path).fields.iter().collect()
}

fn sent(body: &str) -> Sent {
    Sent::parse(body.as_bytes()).expect("a form")
}

#[test]
fn a_form_is_read_once_and_whole() {
    let mut form = sent("a=1&b=2&b=3&c=4");
    assert_eq!(form.take("a").expect("once"), Some("1".into()));
    assert!(form.take("missing").expect("may be missing").is_none());
    assert!(form.need("missing").is_err());
    assert!(form.clone().take("b").is_err(), "twice");
    assert_eq!(form.take_all("b"), ["2", "3"]);
    assert!(form.clone().end().expect_err("c is left").to_string().contains("`c`"));
    form.take_all("c");
    assert!(form.end().is_ok());
}

#[test]
fn what_is_not_text_is_refused() {
    assert!(Sent::parse(b"name=%ff%fe").is_err());
    assert!(Sent::parse("x=1&".repeat(PAIRS + 1).as_bytes()).is_err());
}

#[test]
fn a_new_object_has_what_was_written_and_nothing_else() {
    let fields = fields("subnets");
    let mut form = sent(
        "network_id=6f1c2f60-0000-4000-8000-000000000001&name=+front+&cidr=10.0.1.0/24&gateway_ip=none&\
         enable_dhcp=on&allocation_pools=10.0.1.2+-+10.0.1.9%0D%0A%0D%0A10.0.1.20-10.0.1.29&dns_nameservers=",
    );
    let texts = take(&fields, &mut form).expect("fields");
    form.end().expect("all are known");
    let body = creation(&fields, &texts).expect("good");
    let expected = json!({
        "network_id": "6f1c2f60-0000-4000-8000-000000000001", "name": "front", "cidr": "10.0.1.0/24",
        "gateway_ip": null, "enable_dhcp": true, "allocation_pools": [
            {"start": "10.0.1.2", "end": "10.0.1.9"}, {"start": "10.0.1.20", "end": "10.0.1.29"}],
    });
    assert_eq!(Value::Object(body), expected);
}

#[test]
fn every_error_stands_at_its_field() {
    let fields = fields("subnets");
    let texts = take(&fields, &mut sent("cidr=10.0.1.0&prefixlen=99&subnetpool_id=x")).expect("fields");
    let errors = creation(&fields, &texts).expect_err("three are wrong, one is missing");
    assert_eq!(errors.keys().copied().collect::<Vec<_>>(), ["cidr", "network_id", "prefixlen", "subnetpool_id"]);
}

#[test]
fn a_change_is_what_differs() {
    let fields: Vec<_> = fields("ports").into_iter().filter(|field| field.edits && !field.operator).collect();
    let object = json!({
        "name": "web", "description": "old", "admin_state_up": true, "port_security_enabled": true,
        "security_groups": ["6f1c2f60-0000-4000-8000-000000000001"], "allowed_address_pairs": [],
        "fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": "s"}], "device_id": "", "dns_name": "",
    });
    let unchanged = texts_of(&fields, &object);
    assert!(change(&fields, &unchanged, &object).expect("good").is_empty());
    let mut changed = unchanged;
    changed.insert("description", vec![String::new()]);
    changed.insert("admin_state_up", Vec::new());
    changed.insert("security_groups", Vec::new());
    changed.insert("fixed_ips", vec!["10.0.0.5\r\n10.0.0.6".into()]);
    let body = Value::Object(change(&fields, &changed, &object).expect("good"));
    let expected = json!({
        "description": "", "admin_state_up": false, "security_groups": [],
        "fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": "s"}, {"ip_address": "10.0.0.6"}],
    });
    assert_eq!(body, expected);
}

/// What a browser sends of inputs that nobody touched.
fn untouched(inputs: &[Input]) -> String {
    let mut pairs = form_urlencoded::Serializer::new(String::new());
    for input in inputs {
        match &input.look {
            Look::Line(text) | Look::Digits(text) => _ = pairs.append_pair(input.name, text),
            Look::Lines(text) => _ = pairs.append_pair(input.name, &text.replace('\n', "\r\n")),
            Look::Check(true) => _ = pairs.append_pair(input.name, "on"),
            Look::Check(false) => {}
            Look::One(choices) | Look::Any(choices) => {
                for choice in choices.iter().filter(|choice| choice.chosen) {
                    pairs.append_pair(input.name, &choice.value);
                }
            }
        }
    }
    pairs.finish()
}

#[test]
fn a_form_that_nobody_touched_changes_nothing_whatever_there_is_to_choose_from() {
    let fields: Vec<_> = fields("ports").into_iter().filter(|field| field.edits).collect();
    let groups = ["6f1c2f60-0000-4000-8000-000000000001", "6f1c2f60-0000-4000-8000-000000000002"];
    let object = json!({
        "name": "web", "description": "", "admin_state_up": true, "port_security_enabled": true,
        "security_groups": groups, "allowed_address_pairs": [], "device_id": "", "dns_name": "",
        "fixed_ips": [{"ip_address": "10.0.0.5", "subnet_id": "s"}], "binding:host_id": "h1",
    });
    let choice = |value: &str| Choice { value: value.into(), label: "a group".into(), chosen: false };
    let none_of_these = Some(vec![choice("6f1c2f60-0000-4000-8000-000000000009")]);
    for offered in [none_of_these, Some(vec![choice(groups[1])]), Some(Vec::new()), None] {
        let choices = BTreeMap::from([("security_groups", offered)]);
        let shown = inputs(&fields, &texts_of(&fields, &object), &Errors::new(), &choices, false);
        let mut form = sent(&untouched(&shown));
        let texts = take(&fields, &mut form).expect("fields");
        form.end().expect("all are known");
        assert_eq!(change(&fields, &texts, &object), Ok(Map::new()), "{choices:?}");
    }
}

#[test]
fn a_text_of_several_lines_is_not_changed_by_showing_it_in_one() {
    let fields: Vec<_> = fields("networks").into_iter().filter(|field| field.name == "description").collect();
    let object = json!({"description": "first\r\nsecond"});
    let changed = |text: &str| change(&fields, &Texts::from([("description", vec![text.to_owned()])]), &object);
    assert_eq!(changed("firstsecond"), Ok(Map::new()));
    assert_eq!(changed("first, second").map(Value::Object), Ok(json!({"description": "first, second"})));
}

#[test]
fn the_order_of_name_servers_is_a_difference_and_that_of_groups_is_none() {
    let differs = |path, name: &str, before: Value, now: &[&str]| {
        let fields: Vec<_> = fields(path).into_iter().filter(|field| field.name == name).collect();
        let texts = Texts::from([(fields[0].name, now.iter().map(|text| (*text).to_owned()).collect())]);
        !change(&fields, &texts, &json!({ name: before })).expect("good").is_empty()
    };
    assert!(differs("subnets", "dns_nameservers", json!(["10.0.0.1", "10.0.0.2"]), &["10.0.0.2\r\n10.0.0.1"]));
    let (a, b) = ("6f1c2f60-0000-4000-8000-000000000001", "6f1c2f60-0000-4000-8000-000000000002");
    assert!(!differs("ports", "security_groups", json!([a, b]), &[b, a]));
}

#[test]
fn what_was_written_stands_in_the_form_again() {
    let fields = fields("security-group-rules");
    let texts = take(&fields, &mut sent("direction=egress&port_range_min=x%3Cy")).expect("fields");
    let errors = creation(&fields, &texts).expect_err("no number");
    let inputs = inputs(&fields, &texts, &errors, &BTreeMap::new(), true);
    let of = |name: &str| inputs.iter().find(|input| input.name == name).expect("a field");
    assert_eq!(of("port_range_min").look, Look::Digits("x<y".into()));
    assert!(of("port_range_min").error.is_some() && of("port_range_min").described().contains("port_range_min-error"));
    let Look::One(choices) = &of("direction").look else { panic!("a choice") };
    assert_eq!(choices.iter().find(|choice| choice.chosen).map(|choice| choice.value.as_str()), Some("egress"));
    assert_eq!(of("remote_group_id").look, Look::Line(String::new()), "too many to choose from: an id");
}

#[test]
fn a_gateway_is_asked_for_by_its_network_alone() {
    let fields: Vec<&'static Field> = fields("routers").into_iter().filter(|field| field.inside.is_some()).collect();
    let (first, second) = ("6f1c2f60-0000-4000-8000-000000000001", "6f1c2f60-0000-4000-8000-000000000002");
    let sent = |id: &str| Texts::from([("external_gateway_info", vec![id.to_owned()])]);
    let info = |id: &str| json!({"external_gateway_info": {"network_id": id}});
    assert_eq!(creation(&fields, &sent(first)), Ok(info(first).as_object().expect("an object").clone()));
    assert_eq!(creation(&fields, &sent("")), Ok(Map::new()));
    let router = json!({"external_gateway_info": {"network_id": first, "enable_snat": true, "external_fixed_ips": []}});
    assert_eq!(texts_of(&fields, &router), sent(first));
    assert_eq!(change(&fields, &sent(first), &router), Ok(Map::new()), "what stays is not sent");
    assert_eq!(change(&fields, &sent(second), &router), Ok(info(second).as_object().expect("an object").clone()));
    let none = json!({ "external_gateway_info": null });
    assert_eq!(change(&fields, &sent(""), &router), Ok(none.as_object().expect("an object").clone()));
    assert_eq!(texts_of(&fields, &none), sent(""));
}
