//! A network, a subnet and a port, from create to delete, with the generated client.

use mizar_client::apis::configuration::{ApiKey, Configuration};
use mizar_client::apis::{networks_api as networks, ports_api as ports, subnets_api as subnets};
use mizar_client::models::subnet_create::IpVersion;
use mizar_client::models::*;
use std::error::Error;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut server = Configuration::new();
    server.base_path = std::env::var("MIZAR_URL")?;
    server.api_key = Some(ApiKey { prefix: None, key: std::env::var("MIZAR_TOKEN")? });

    let body = NetworkCreate { name: Some("generated".into()), ..NetworkCreate::new() };
    let create_network_request = CreateNetworkRequest::NewNetwork(NewNetwork::new(body).into());
    let made = networks::create_network(&server, networks::CreateNetworkParams { create_network_request }).await?;
    let CreateNetwork201Response::OneNetwork(made) = made else { return Err("several".into()) };
    let network = made.network.id.ok_or("no id")?;

    let body = SubnetCreate { cidr: Some(Some("10.0.0.0/24".into())), ..SubnetCreate::new(IpVersion::Variant4, network) };
    let create_subnet_request = CreateSubnetRequest::NewSubnet(NewSubnet::new(body).into());
    let made = subnets::create_subnet(&server, subnets::CreateSubnetParams { create_subnet_request }).await?;
    let CreateSubnet201Response::OneSubnet(made) = made else { return Err("several".into()) };
    let subnet = made.subnet.id.ok_or("no id")?.to_string();

    let create_port_request = CreatePortRequest::NewPort(NewPort::new(PortCreate::new(network)).into());
    let made = ports::create_port(&server, ports::CreatePortParams { create_port_request }).await?;
    let CreatePort201Response::OnePort(made) = made else { return Err("several".into()) };
    let port = made.port.id.ok_or("no id")?;

    let wanted = ports::ListPortsParams { network_id: Some(vec![network.to_string()]), ..Default::default() };
    let listed = ports::list_ports(&server, wanted).await?.ports;
    assert_eq!(listed.iter().map(|port| port.id).collect::<Vec<_>>(), [Some(port)]);

    let id = port.to_string();
    let shown = ports::show_port(&server, ports::ShowPortParams { id: id.clone(), fields: None }).await?.port;
    assert_eq!((shown.id, shown.network_id), (Some(port), Some(network)));
    assert_eq!(shown.fixed_ips.ok_or("no addresses")?.len(), 1);

    let change = PortUpdate { name: Some("renamed".into()), ..PortUpdate::new() };
    let update_port_request = UpdatePortRequest::new(change);
    let params = ports::UpdatePortParams { id: id.clone(), update_port_request, if_match: None };
    assert_eq!(ports::update_port(&server, params).await?.port.name.as_deref(), Some("renamed"));

    ports::delete_port(&server, ports::DeletePortParams { id: id.clone(), if_match: None }).await?;
    match ports::show_port(&server, ports::ShowPortParams { id, fields: None }).await {
        Err(mizar_client::apis::Error::ResponseError(refused)) => assert_eq!(refused.status.as_u16(), 404),
        other => return Err(format!("the port is still there: {other:?}").into()),
    }
    subnets::delete_subnet(&server, subnets::DeleteSubnetParams { id: subnet, if_match: None }).await?;
    let id = network.to_string();
    networks::delete_network(&server, networks::DeleteNetworkParams { id, if_match: None }).await?;
    println!("done");
    Ok(())
}
