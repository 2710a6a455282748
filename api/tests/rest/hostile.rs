//! Malformed and hostile requests: each gets its error, and none changes a row.

use crate::support::{Client, Cloud, id};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use reqwest::Method;
use serde_json::{Value, json};

const BAD: (u16, &str) = (400, "HTTPBadRequest");
const INPUT: (u16, &str) = (400, "InvalidInput");
const NO_TOKEN: (u16, &str) = (401, "Keystone");

/// What a project of its own has, and one of another.
struct World {
    cloud: Cloud,
    red: Client,
    network: String,
    subnet: String,
    port: String,
    foreign_network: String,
    foreign_subnet: String,
    foreign_port: String,
}

async fn world() -> anyhow::Result<World> {
    let cloud = Cloud::start().await?;
    let (red, blue) = (cloud.tenant("red", "member").await?, cloud.tenant("blue", "member").await?);
    let make = async |client: &Client| {
        let (network, subnet) = client.network("10.0.0.0/24").await?;
        let fixed = json!([{"ip_address": "10.0.0.9"}]);
        let port = client.make("port", json!({"network_id": network["id"], "fixed_ips": fixed})).await?;
        anyhow::Ok([id(&network).to_owned(), id(&subnet).to_owned(), id(&port).to_owned()])
    };
    let [network, subnet, port] = make(&red).await?;
    let [foreign_network, foreign_subnet, foreign_port] = make(&blue).await?;
    Ok(World { cloud, red, network, subnet, port, foreign_network, foreign_subnet, foreign_port })
}

type Case = (&'static str, Method, String, String, (u16, &'static str));

fn network_cases(w: &World) -> Vec<Case> {
    let post =
        |name, body: Value, expected| (name, Method::POST, "/v2.0/networks".to_owned(), body.to_string(), expected);
    let raw = |name, body: &str, expected| (name, Method::POST, "/v2.0/networks".to_owned(), body.to_owned(), expected);
    let put = |name, body: Value, expected| {
        (name, Method::PUT, format!("/v2.0/networks/{}", w.network), json!({ "network": body }).to_string(), expected)
    };
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    vec![
        raw("no body", "", BAD),
        raw("half a body", "{\"network\": {", BAD),
        raw("two bodies", "{\"network\": {}} {}", BAD),
        raw("not UTF-8 escapes", "{\"network\": {\"name\": \"\\ud800\"}}", BAD),
        raw("endless nesting", &deep, BAD),
        raw("a number", "5", BAD),
        raw("null", "null", BAD),
        post("no envelope", json!({"name": "x"}), BAD),
        post("wrong envelope", json!({"port": {}}), BAD),
        post("two envelopes", json!({"network": {}, "networks": []}), BAD),
        post("more than the envelope", json!({"network": {}, "x": 1}), BAD),
        post("envelope of a list", json!({"network": []}), BAD),
        post("bulk of nothing", json!({"networks": []}), BAD),
        post("bulk of an object", json!({"networks": {}}), BAD),
        post("bulk of numbers", json!({"networks": [1]}), BAD),
        post("bulk too large", json!({"networks": vec![json!({}); 1001]}), BAD),
        post("unknown attribute", json!({"network": {"colour": "red"}}), BAD),
        post("read-only attribute", json!({"network": {"status": "DOWN"}}), BAD),
        post("own id", json!({"network": {"id": "00000000-0000-0000-0000-000000000000"}}), BAD),
        post("name of a number", json!({"network": {"name": 5}}), BAD),
        post("name of null", json!({"network": {"name": null}}), BAD),
        post("name too long", json!({"network": {"name": "x".repeat(256)}}), BAD),
        post("name with NUL", json!({"network": {"name": "a\u{0}b"}}), BAD),
        post("description of a list", json!({"network": {"description": []}}), BAD),
        post("state of a word", json!({"network": {"admin_state_up": "perhaps"}}), BAD),
        post("mtu negative", json!({"network": {"mtu": -1}}), BAD),
        post("mtu beyond 64 bits", json!({"network": {"mtu": 1e30}}), BAD),
        post("mtu a fraction", json!({"network": {"mtu": 1398.5}}), BAD),
        post("mtu too large", json!({"network": {"mtu": 1399}}), INPUT),
        post("mtu too small", json!({"network": {"mtu": 67}}), INPUT),
        post("shared by a member", json!({"network": {"shared": true}}), (403, "PolicyNotAuthorized")),
        post("a VNI by a member", json!({"network": {"provider:segmentation_id": 5000}}), (403, "PolicyNotAuthorized")),
        post("external by a member", json!({"network": {"router:external": true}}), (403, "PolicyNotAuthorized")),
        post("tags twice", json!({"network": {"tags": ["a", "a"]}}), BAD),
        post("tag with comma", json!({"network": {"tags": ["a,b"]}}), BAD),
        post("project of a word", json!({"network": {"project_id": "red"}}), BAD),
        put("read-only attribute", json!({"tenant_id": w.red.project}), BAD),
        put("unknown attribute", json!({"colour": 1}), BAD),
        put("null state", json!({"admin_state_up": null}), BAD),
    ]
}

fn subnet_cases(w: &World) -> Vec<Case> {
    let with = |name, more: Value, expected| {
        let mut body = json!({"network_id": w.network, "ip_version": 4, "cidr": "10.5.0.0/24"});
        body.as_object_mut().expect("made as one").extend(more.as_object().cloned().unwrap_or_default());
        (name, Method::POST, "/v2.0/subnets".to_owned(), json!({ "subnet": body }).to_string(), expected)
    };
    let pools = |pools: &[(&str, &str)]| json!({"allocation_pools": pools.iter().map(|(start, end)| json!({"start": start, "end": end})).collect::<Vec<_>>()});
    let servers: Vec<String> = (0..6).map(|n| format!("9.9.9.{n}")).collect();
    let routes: Vec<Value> =
        (0..21).map(|n| json!({"destination": format!("172.16.{n}.0/24"), "nexthop": "10.5.0.9"})).collect();
    vec![
        ("nothing given", Method::POST, "/v2.0/subnets".into(), json!({"subnet": {}}).to_string(), BAD),
        with("foreign network", json!({"network_id": w.foreign_network}), (404, "NetworkNotFound")),
        with("network of a word", json!({"network_id": "red"}), BAD),
        with("network of null", json!({"network_id": null}), BAD),
        with("overlap", json!({"cidr": "10.0.0.128/25"}), INPUT),
        with("overlap from above", json!({"cidr": "10.0.0.0/8"}), INPUT),
        with("host bits", json!({"cidr": "10.5.0.1/24"}), BAD),
        with("no prefix", json!({"cidr": "10.5.0.0"}), BAD),
        with("prefix too long", json!({"cidr": "10.5.0.0/33"}), BAD),
        with("everything", json!({"cidr": "0.0.0.0/0"}), BAD),
        with("multicast", json!({"cidr": "224.0.0.0/24"}), BAD),
        with("loopback", json!({"cidr": "127.0.0.0/24"}), BAD),
        with("SQL", json!({"cidr": "10.0.0.0/24'; DROP TABLE ports; --"}), BAD),
        with("IPv6 range", json!({"cidr": "fd00::/64"}), BAD),
        with("IPv6 version", json!({"ip_version": 6, "cidr": "fd00::/64"}), BAD),
        with("IP version 5", json!({"ip_version": 5}), BAD),
        with("gateway outside", json!({"gateway_ip": "10.6.0.1"}), INPUT),
        with("gateway is the network", json!({"gateway_ip": "10.5.0.0"}), INPUT),
        with("gateway is the broadcast", json!({"gateway_ip": "10.5.0.255"}), INPUT),
        with("gateway of a word", json!({"gateway_ip": "router"}), BAD),
        with("gateway of IPv6", json!({"gateway_ip": "fd00::1"}), BAD),
        with("pool reversed", pools(&[("10.5.0.20", "10.5.0.10")]), (400, "InvalidAllocationPool")),
        with("pool outside", pools(&[("10.5.0.20", "10.5.1.10")]), (400, "OutOfBoundsAllocationPool")),
        with(
            "pools overlap",
            pools(&[("10.5.0.9", "10.5.0.20"), ("10.5.0.20", "10.5.0.30")]),
            (409, "OverlappingAllocationPools"),
        ),
        with(
            "pool holds the gateway",
            pools(&[("10.5.0.1", "10.5.0.20")]),
            (409, "GatewayConflictWithAllocationPools"),
        ),
        with("pool without end", json!({"allocation_pools": [{"start": "10.5.0.2"}]}), BAD),
        with("pool with more", json!({"allocation_pools": [{"start": "10.5.0.2", "end": "10.5.0.3", "x": 1}]}), BAD),
        with("dhcp without room", json!({"cidr": "10.5.0.0/31"}), INPUT),
        with("too many servers", json!({"dns_nameservers": servers}), (400, "DNSNameServersExhausted")),
        with("server twice", json!({"dns_nameservers": ["9.9.9.9", "9.9.9.9"]}), BAD),
        with("server of a word", json!({"dns_nameservers": ["dns"]}), BAD),
        with("too many routes", json!({"host_routes": routes}), (400, "HostRoutesExhausted")),
        with(
            "route with host bits",
            json!({"host_routes": [{"destination": "172.16.0.1/24", "nexthop": "10.5.0.9"}]}),
            BAD,
        ),
        with("route to nowhere", json!({"host_routes": [{"destination": "172.16.0.0/24"}]}), BAD),
        with("a subnet pool that is none", json!({"subnetpool_id": w.network}), (404, "SubnetPoolNotFound")),
        with("no range and no pool", json!({"cidr": null}), (400, "BadRequest")),
        with("service types of nobody", json!({"service_types": ["nova"]}), BAD),
        with("a segment", json!({"segment_id": w.network}), BAD),
        with("IPv6 modes", json!({"ipv6_ra_mode": "slaac"}), INPUT),
        with("IPv6 modes that are none", json!({"ipv6_address_mode": "dhcp"}), BAD),
        ("in use", Method::DELETE, format!("/v2.0/subnets/{}", w.subnet), String::new(), (409, "SubnetInUse")),
        (
            "another's",
            Method::DELETE,
            format!("/v2.0/subnets/{}", w.foreign_subnet),
            String::new(),
            (404, "SubnetNotFound"),
        ),
        (
            "its range",
            Method::PUT,
            format!("/v2.0/subnets/{}", w.subnet),
            json!({"subnet": {"cidr": "10.7.0.0/24"}}).to_string(),
            BAD,
        ),
    ]
}

fn port_cases(w: &World) -> Vec<Case> {
    let with = |name, more: Value, expected| {
        let mut body = json!({"network_id": w.network});
        body.as_object_mut().expect("made as one").extend(more.as_object().cloned().unwrap_or_default());
        (name, Method::POST, "/v2.0/ports".to_owned(), json!({ "port": body }).to_string(), expected)
    };
    let put = |name, body: Value, expected| {
        (name, Method::PUT, format!("/v2.0/ports/{}", w.port), json!({ "port": body }).to_string(), expected)
    };
    let pairs: Vec<Value> = (0..11).map(|n| json!({"ip_address": format!("10.9.0.{n}")})).collect();
    vec![
        ("no network", Method::POST, "/v2.0/ports".into(), json!({"port": {}}).to_string(), BAD),
        with("foreign network", json!({"network_id": w.foreign_network}), (404, "NetworkNotFound")),
        with("no such network", json!({"network_id": w.port}), (404, "NetworkNotFound")),
        with("foreign subnet", json!({"fixed_ips": [{"subnet_id": w.foreign_subnet}]}), INPUT),
        with("address taken", json!({"fixed_ips": [{"ip_address": "10.0.0.9"}]}), (409, "IpAddressInUse")),
        with("address of the gateway", json!({"fixed_ips": [{"ip_address": "10.0.0.1"}]}), (409, "IpAddressInUse")),
        with("address outside", json!({"fixed_ips": [{"ip_address": "10.1.0.9"}]}), (400, "InvalidIpForNetwork")),
        with(
            "broadcast address",
            json!({"fixed_ips": [{"ip_address": "10.0.0.255", "subnet_id": w.subnet}]}),
            (400, "InvalidIpForSubnet"),
        ),
        with("address twice", json!({"fixed_ips": [{"ip_address": "10.0.0.7"}, {"ip_address": "10.0.0.7"}]}), INPUT),
        with("address of IPv6", json!({"fixed_ips": [{"ip_address": "fd00::7"}]}), BAD),
        with("address of a word", json!({"fixed_ips": [{"ip_address": "seven"}]}), BAD),
        with("address of nothing", json!({"fixed_ips": [{}]}), INPUT),
        with("address with more", json!({"fixed_ips": [{"ip_address": "10.0.0.7", "x": 1}]}), BAD),
        with("addresses of a word", json!({"fixed_ips": "10.0.0.7"}), BAD),
        with("too many addresses", json!({"fixed_ips": vec![json!({"subnet_id": w.subnet}); 33]}), INPUT),
        with("MAC of a word", json!({"mac_address": "mac"}), BAD),
        with("MAC multicast", json!({"mac_address": "01:00:5e:00:00:01"}), BAD),
        with("MAC broadcast", json!({"mac_address": "ff:ff:ff:ff:ff:ff"}), BAD),
        with("MAC zero", json!({"mac_address": "00:00:00:00:00:00"}), BAD),
        with("too many pairs", json!({"allowed_address_pairs": pairs}), (400, "AllowedAddressPairExhausted")),
        with("pair without address", json!({"allowed_address_pairs": [{"mac_address": "fa:16:3e:00:00:01"}]}), BAD),
        with(
            "pair without security",
            json!({"port_security_enabled": false, "allowed_address_pairs": [{"ip_address": "10.0.0.7"}]}),
            (409, "AddressPairAndPortSecurityRequired"),
        ),
        with("security group of nobody", json!({"security_groups": [w.port]}), (404, "SecurityGroupNotFound")),
        with("DHCP options", json!({"extra_dhcp_opts": [{"opt_name": "router", "opt_value": "nowhere"}]}), BAD),
        with("an interface of no kind", json!({"binding:vnic_type": "sr-iov"}), BAD),
        with("binding by a member", json!({"binding:host_id": "h1"}), (403, "PolicyNotAuthorized")),
        with("device id too long", json!({"device_id": "x".repeat(256)}), BAD),
        with("status", json!({"status": "ACTIVE"}), BAD),
        put("network", json!({"network_id": w.network}), BAD),
        put(
            "address taken by the gateway",
            json!({"fixed_ips": [{"ip_address": "10.0.0.1"}]}),
            (409, "IpAddressInUse"),
        ),
        put("MAC by a member", json!({"mac_address": "fa:16:3e:00:00:01"}), (403, "PolicyNotAuthorized")),
        put("profile by a member", json!({"binding:profile": {}}), (403, "PolicyNotAuthorized")),
        (
            "another's",
            Method::PUT,
            format!("/v2.0/ports/{}", w.foreign_port),
            json!({"port": {"name": "x"}}).to_string(),
            (404, "PortNotFound"),
        ),
        ("another's", Method::DELETE, format!("/v2.0/ports/{}", w.foreign_port), String::new(), (404, "PortNotFound")),
        ("no id", Method::DELETE, "/v2.0/ports/x".into(), String::new(), (404, "PortNotFound")),
        ("NUL in the path", Method::GET, "/v2.0/ports/%00".into(), String::new(), (404, "PortNotFound")),
        ("SQL in the path", Method::DELETE, "/v2.0/ports/'%20OR%201=1".into(), String::new(), (404, "PortNotFound")),
        (
            "another's network",
            Method::DELETE,
            format!("/v2.0/networks/{}", w.foreign_network),
            String::new(),
            (404, "NetworkNotFound"),
        ),
        (
            "a network with ports",
            Method::DELETE,
            format!("/v2.0/networks/{}", w.network),
            String::new(),
            (409, "NetworkInUse"),
        ),
    ]
}

#[tokio::test]
async fn malformed_and_hostile_requests_get_their_error_and_change_nothing() -> anyhow::Result<()> {
    let w = world().await?;
    let before = w.cloud.dump().await?;
    let cases = [network_cases(&w), subnet_cases(&w), port_cases(&w)].concat();
    assert!(cases.len() >= 100, "{}", cases.len());
    for (name, method, path, body, expected) in cases {
        let body = (method == Method::POST || method == Method::PUT).then_some(body);
        let shown: String = body.clone().unwrap_or_default().chars().take(200).collect();
        let answer = w.red.send(method.clone(), &path, body, &[]).await?;
        assert_eq!(answer.fault(), expected, "{name}: {method} {path} {shown}: {}", answer.text);
        assert!(!answer.message().is_empty(), "{name}");
    }
    assert_eq!(w.cloud.dump().await?, before);
    Ok(())
}

#[tokio::test]
async fn an_oversized_body_is_refused_with_or_without_its_length() -> anyhow::Result<()> {
    let w = world().await?;
    let before = w.cloud.dump().await?;
    let body = json!({"network": {"description": "x".repeat(2 << 20)}}).to_string();
    let answer = w.red.send(Method::POST, "/v2.0/networks", Some(body.clone()), &[]).await?;
    assert_eq!(answer.fault(), (413, "RequestTooLarge"));
    let login = w.cloud.stranger().send(Method::POST, "/v3/auth/tokens", Some(body), &[]).await?;
    assert_eq!(login.status, 413);
    assert_eq!(w.cloud.dump().await?, before);
    w.red.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

fn part(value: &Value) -> String {
    BASE64.encode(value.to_string())
}

#[tokio::test]
async fn forged_tokens_are_worth_nothing() -> anyhow::Result<()> {
    let w = world().await?;
    let admin = w.cloud.admin().await?;
    let real = admin.token.clone().unwrap_or_default();
    let mine = w.red.token.clone().unwrap_or_default();
    let split = |token: &str| token.split('.').map(str::to_owned).collect::<Vec<_>>();
    let ([header, claims, signature], [_, my_claims, my_signature]) = (
        <[String; 3]>::try_from(split(&real)).unwrap_or_default(),
        <[String; 3]>::try_from(split(&mine)).unwrap_or_default(),
    );
    let decoded: Value = serde_json::from_slice(&BASE64.decode(&header)?)?;
    let kid = &decoded["kid"];
    let none = part(&json!({"typ": "JWT", "alg": "none", "kid": kid}));
    let other_key = part(&json!({"typ": "JWT", "alg": "ES256", "kid": "other"}));
    let no_key = part(&json!({"typ": "JWT", "alg": "ES256"}));
    let public = rcgen::KeyPair::from_pem(&std::fs::read_to_string(
        std::fs::read_dir(w.cloud.state_dir().join("token-keys"))?.next().expect("one key")?.path(),
    )?)?
    .public_key_pem();
    let symmetric = {
        // The classic: the public key as the secret of an HMAC.
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
        header.kid = kid.as_str().map(str::to_owned);
        let said: Value = serde_json::from_slice(&BASE64.decode(&claims)?)?;
        jsonwebtoken::encode(&header, &said, &jsonwebtoken::EncodingKey::from_secret(public.as_bytes()))?
    };
    let stranger = {
        // Signed well, by somebody else.
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = kid.as_str().map(str::to_owned);
        let said: Value = serde_json::from_slice(&BASE64.decode(&claims)?)?;
        jsonwebtoken::encode(&header, &said, &jsonwebtoken::EncodingKey::from_ec_pem(pair.serialize_pem().as_bytes())?)?
    };
    let tokens = [
        ("empty", String::new()),
        ("nonsense", "nonsense".into()),
        ("three dots", "...".into()),
        ("alg none", format!("{none}.{claims}.")),
        ("alg none with a signature", format!("{none}.{claims}.{signature}")),
        ("public key as secret", symmetric),
        ("another signer", stranger),
        ("another key's name", format!("{other_key}.{claims}.{signature}")),
        ("no key's name", format!("{no_key}.{claims}.{signature}")),
        ("another's claims", format!("{header}.{claims}.{my_signature}")),
        ("another's signature", format!("{header}.{my_claims}.{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("cut", real[..real.len() - 4].to_owned()),
        ("very long", "x".repeat(20_000)),
    ];
    let before = w.cloud.dump().await?;
    for (name, token) in tokens {
        let forger = w.red.with_token(&token);
        let answer = forger.send(Method::GET, "/v2.0/networks", None, &[]).await?;
        assert_eq!(answer.fault(), NO_TOKEN, "{name}");
        let made = forger.post("/v2.0/networks", &json!({"network": {}})).await?;
        assert_eq!(made.fault(), NO_TOKEN, "{name}");
    }
    assert_eq!(w.cloud.stranger().get("/v2.0/networks").await?.fault(), NO_TOKEN);
    assert_eq!(w.cloud.dump().await?, before);
    admin.get("/v2.0/networks").await?.ok(200)?;
    Ok(())
}

#[tokio::test]
async fn an_expired_token_is_worth_nothing() -> anyhow::Result<()> {
    let w = world().await?;
    let keys = mizar_api::identity::keys::Keys::open(w.cloud.state_dir())?;
    let tokens = mizar_api::identity::token::Tokens::new(keys);
    let mut claims = tokens.verify(w.red.token.as_deref().unwrap_or_default())?;
    let again = tokens.sign(&claims)?;
    w.red.with_token(&again).get("/v2.0/networks").await?.ok(200)?;
    claims.exp = claims.iat - 1;
    let expired = tokens.sign(&claims)?;
    assert_eq!(w.red.with_token(&expired).get("/v2.0/networks").await?.fault(), NO_TOKEN);
    Ok(())
}
