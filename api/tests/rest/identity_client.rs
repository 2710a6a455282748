//! The `openstack` command and openstacksdk, unmodified, against the embedded identity service.

use crate::openstack_client::OpenStack;
use crate::support::Cloud;
use serde_json::Value;

fn names(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(|object| object["Name"].as_str()).collect()
}

#[tokio::test]
async fn the_openstack_command_keeps_accounts() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let os = OpenStack::admin(&cloud)?;
    let domain = os.json("domain create --description d east").await?;
    assert_eq!(domain["name"], "east");
    os.run("domain set --name west --disable east").await?;
    assert_eq!(names(&os.json("domain list").await?), ["Default", "west"]);
    os.run("domain delete west").await?;

    let project = os.json("project create --description d --tag a --tag b red").await?;
    assert_eq!(project["tags"], serde_json::json!(["a", "b"]));
    assert!(os.refused("project create red").await?.contains("409"));
    os.run("project create --or-show red").await?;
    os.run("project set --description changed --tag c red").await?;
    assert_eq!(os.json("project show red").await?["description"], "changed");
    assert_eq!(names(&os.json("project list --tags c").await?), ["red"]);

    let user = "user create --password secret --email ann@example.org --project red --description d ann";
    assert_eq!(os.json(user).await?["email"], "ann@example.org");
    os.run("user set --description changed --name anna ann").await?;
    assert_eq!(os.json("user show anna").await?["description"], "changed");
    os.run("role add --project red --user anna member").await?;
    os.run("role add --domain Default --user anna reader").await?;
    os.run("role add --system all --user anna reader").await?;
    assert_eq!(names(&os.json("user list --project red").await?), ["anna"]);
    assert_eq!(names(&os.json("project list --user anna").await?), ["red"]);
    let assignments = os.json("role assignment list --user anna --names").await?;
    let assignments = assignments.as_array().cloned().unwrap_or_default();
    assert_eq!(assignments.len(), 3);
    assert!(
        assignments.iter().any(|row| row["Project"] == "red@Default" && row["Role"] == "member"),
        "{assignments:?}"
    );
    os.run("role remove --system all --user anna reader").await?;
    os.run("role remove --domain Default --user anna reader").await?;

    os.run("role create auditor").await?;
    os.run("role set --description d auditor").await?;
    assert_eq!(names(&os.json("role list").await?), ["admin", "auditor", "manager", "member", "reader", "service"]);
    os.run("role delete auditor").await?;
    assert!(os.refused("role delete member").await?.contains("403"));
    os.run("role show member").await?;

    for words in ["catalog list", "endpoint list", "service list", "region list"] {
        assert!(os.json(words).await?.as_array().is_some_and(|list| !list.is_empty()), "{words}");
    }
    os.run("catalog show network").await?;
    os.run("user set --disable anna").await?;
    os.run("user delete anna").await?;
    os.run("project delete red").await?;
    assert!(os.refused("user show anna").await?.contains("anna"));
    Ok(())
}

#[tokio::test]
async fn a_tenant_uses_application_credentials_with_the_openstack_command() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let red = cloud.tenant("red", "member").await?;
    let os = OpenStack::of(&red)?;
    let made = os.json("application credential create --role member --description d ci").await?;
    let text = |name: &str| made[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(names(&os.json("application credential list").await?), ["ci"]);
    os.run("application credential show ci").await?;
    let refused = os.refused("application credential create --role admin more").await?;
    assert!(refused.contains("roles"), "{refused}");
    let by_credential = OpenStack::with_application_credential(&cloud, &text("ID"), &text("Secret"))?;
    by_credential.run("network create net").await?;
    by_credential.run("token issue").await?;
    assert!(by_credential.refused("application credential create more").await?.contains("403"));
    os.run("application credential delete ci").await?;
    by_credential.refused("network list").await?;
    assert_eq!(names(&os.json("project list").await?), ["red"]);
    assert!(os.refused("user list").await?.contains("403"));
    os.run("user password set --original-password secret --password other").await?;
    os.refused("network list").await?;
    Ok(())
}

const SDK: &str = r#"
import openstack, sys
c = openstack.connect(auth_url=sys.argv[1], username="admin", password=sys.argv[2], project_name="admin",
                      user_domain_name="Default", project_domain_name="Default", identity_api_version="3")
i = c.identity
p = i.create_project(name="sdk", description="d")
u = i.create_user(name="sdk", password="secret", default_project_id=p.id)
r = i.find_role("member")
i.assign_project_role_to_user(p, u, r)
assert i.validate_user_has_project_role(p, u, r)
assert [a.scope["project"]["id"] for a in i.role_assignments(user_id=u.id)] == [p.id]
assert i.find_user("sdk").id == u.id and i.find_project("sdk").id == p.id and i.find_domain("Default").id == "default"
assert i.find_user("nobody") is None
i.update_user(u, is_enabled=False)
assert not i.get_user(u).is_enabled
assert [x.name for x in i.users(is_enabled=False)] == ["sdk"]
try:
    i.create_user(name="sdk", password="x")
    raise SystemExit("no conflict")
except openstack.exceptions.ConflictException:
    pass
i.unassign_project_role_from_user(p, u, r)
assert list(i.role_assignments(user_id=u.id)) == []
me = c.current_user_id
a = i.create_application_credential(me, "sdk")
assert a.secret and i.find_application_credential(me, "sdk").id == a.id
i.delete_application_credential(me, a)
assert list(i.application_credentials(me)) == []
assert {s.type for s in i.services()} == {"identity", "network"} and len(list(i.endpoints())) == 6
i.delete_user(u)
i.delete_project(p)
print("done")
"#;

#[tokio::test]
async fn openstacksdk_keeps_accounts() -> anyhow::Result<()> {
    let cloud = Cloud::start().await?;
    let os = OpenStack::admin(&cloud)?;
    let auth = format!("{}/v3", cloud.url);
    assert_eq!(os.python(SDK, &[&auth, crate::support::ADMIN_PASSWORD]).await?.trim(), "done");
    Ok(())
}
