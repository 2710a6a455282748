//! `clouds.yaml` and `openrc`: with them any OpenStack client speaks to the sandbox.

use super::TENANTS;
use crate::sandbox::Sandbox;
use crate::sandbox::give_to_owner;
use crate::sandbox::pki::write_private;
use crate::sandbox::secrets::Secrets;
use anyhow::Result;

/// Writes both; `openrc` is the administrator's.
pub fn write(sandbox: &Sandbox, secrets: &mut Secrets) -> Result<()> {
    let url = sandbox.api_url();
    let mut clouds = "clouds:\n".to_owned();
    let users = std::iter::once(("mizar-admin", "admin")).chain(TENANTS.iter().map(|name| (*name, *name)));
    for (cloud, user) in users {
        clouds += &cloud_entry(cloud, user, &secrets.of(user)?, &url);
    }
    let layout = sandbox.layout();
    write_private(&layout.clouds(), &clouds)?;
    write_private(&layout.openrc(), &openrc("admin", &secrets.of("admin")?, &url))?;
    give_to_owner(layout, &layout.clouds())?;
    give_to_owner(layout, &layout.openrc())
}

/// Passwords are alphanumeric, so no value needs quoting.
fn cloud_entry(cloud: &str, user: &str, password: &str, url: &str) -> String {
    format!(
        "  {cloud}:\n    auth:\n      auth_url: {url}/v3\n      username: {user}\n      password: {password}\n      \
         project_name: {user}\n      user_domain_id: default\n      project_domain_id: default\n    \
         region_name: RegionOne\n    identity_api_version: 3\n"
    )
}

fn openrc(user: &str, password: &str, url: &str) -> String {
    format!(
        "export OS_AUTH_URL={url}/v3\nexport OS_USERNAME={user}\nexport OS_PASSWORD={password}\n\
         export OS_PROJECT_NAME={user}\nexport OS_USER_DOMAIN_ID=default\nexport OS_PROJECT_DOMAIN_ID=default\n\
         export OS_REGION_NAME=RegionOne\nexport OS_IDENTITY_API_VERSION=3\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_indented_below_clouds() {
        let entry = cloud_entry("red", "red", "secret", "http://127.0.0.1:9696");
        let lines: Vec<_> = entry.lines().collect();
        assert_eq!(lines[0], "  red:");
        assert_eq!(lines[1], "    auth:");
        assert!(lines[2..8].iter().all(|line| line.starts_with("      ") && !line.starts_with("       ")), "{entry}");
        assert_eq!(lines[8], "    region_name: RegionOne");
    }
}
