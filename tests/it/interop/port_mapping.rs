//! A gateway in a house whose router is run by miniupnpd: ports are forwarded in each of the three ways, strangers in the
//! street reach it there, and all is taken back at its end.

use std::path::Path;
use std::time::Duration;

use swarmgate_tests::process::Process;
use swarmgate_tests::programs::Program;
use swarmgate_tests::town::{House, PEER_PORT, Place, Resident, Town};
use swarmgate_tests::wait;

use super::{folder, scratch};

/// Two ways that are not known are given up within 8 s, and a device may take 2 s to answer a search.
const MAPPED_WITHIN: Duration = Duration::from_secs(30);
const MAPPING: [(&str, &str); 1] = [("SWARMGATE_BITTORRENT__PORT_MAPPING", "true")];

/// What a router knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Knows {
    Pcp,
    NatPmp,
    Upnp,
}

/// Where miniupnpd puts what it forwards.
const TABLE: &str = "
    table inet filter {
        chain forward { type filter hook forward priority 10; jump miniupnpd; }
        chain miniupnpd { }
        chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
        chain prerouting_miniupnpd { }
        chain postrouting { type nat hook postrouting priority 90; jump postrouting_miniupnpd; }
        chain postrouting_miniupnpd { }
    }";

/// miniupnpd takes both of one port; what begins with the version of PCP is dropped here.
const OLD: &str = "
    table inet old {
        chain deaf { type filter hook input priority -10; udp dport 5351 @th,64,8 2 drop; }
    }";

impl Knows {
    fn word(self) -> &'static str {
        match self {
            Self::Pcp => "pcp",
            Self::NatPmp => "nat-pmp",
            Self::Upnp => "upnp",
        }
    }

    /// Starts miniupnpd on a house's router; `None` when the story is to be skipped.
    fn run(self, town: &Town, house: &House, dir: &Path) -> Option<Process> {
        let program = Program::Miniupnpd.find()?;
        town.rules(&house.router, TABLE);
        if self == Self::NatPmp {
            town.rules(&house.router, OLD);
        }
        let yes = |is: bool| if is { "yes" } else { "no" };
        let inside = house.router_inside;
        let conf = format!(
            "ext_ifname=out\nlistening_ip=in\nport=0\nenable_natpmp={}\nenable_upnp={}\nsecure_mode=yes\n\
             min_lifetime=120\nmax_lifetime=86400\nupnp_table_name=filter\nupnp_nat_table_name=filter\n\
             upnp_forward_chain=miniupnpd\nupnp_nat_chain=prerouting_miniupnpd\n\
             upnp_nat_postrouting_chain=postrouting_miniupnpd\nuuid=6d1a3c2e-0000-4000-8000-000000000001\n\
             allow 1024-65535 {inside}/24 1024-65535\ndeny 0-65535 0.0.0.0/0 0-65535\n",
            yes(self != Self::Upnp),
            yes(self == Self::Upnp),
        );
        let path = dir.join("miniupnpd.conf");
        std::fs::write(&path, conf).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let mut command = std::process::Command::new(program);
        command.arg("-d").arg("-f").arg(path).arg("-P").arg(dir.join("miniupnpd.pid"));
        Some(house.router.start("miniupnpd", &command, dir))
    }
}

/// What the gateway says of its ports.
async fn told(resident: &Resident) -> serde_json::Value {
    resident.get("/api/v1/status").await.json()["port_mapping"].clone()
}

/// Whether a stranger in the street gets through to what listens in the house.
fn reaches(stranger: &Place, house: &House) -> bool {
    let to = format!("exec 3<>/dev/tcp/{}/{PEER_PORT}", house.router.street);
    let mut command = stranger.command("timeout");
    command.args(["2", "bash", "-c", &to]);
    command.output().is_ok_and(|output| output.status.success())
}

async fn is_mapped_and_unmapped(knows: Knows) {
    let dir = scratch();
    let Some(mut town) = Town::build() else { return };
    let (stranger, house) = (town.host(1), town.house(2));
    let Some(_daemon) = knows.run(&town, &house, &folder(dir.path(), "router")) else { return };
    assert!(!reaches(&stranger, &house), "nothing is forwarded unasked");
    let Some(gateway) = house.host.gateway(&folder(dir.path(), "gateway"), &MAPPING).await else { return };
    let told = wait::until("both ports to be forwarded", MAPPED_WITHIN, async || {
        let told = told(&gateway).await;
        (told["ports"].as_array()?.len() == 2).then_some(told)
    })
    .await;
    assert_eq!(told["by"], knows.word(), "{told}");
    for (row, transport) in told["ports"].as_array().into_iter().flatten().zip(["tcp", "udp"]) {
        assert_eq!((&row["transport"], &row["outside_port"]), (&transport.into(), &PEER_PORT.into()), "{told}");
        assert_eq!(row["outside_address"], house.router.street.to_string(), "{told}");
        assert!(row["expires_in_s"].as_u64().is_some_and(|left| (3600..=7200).contains(&left)), "{told}");
    }
    assert!(reaches(&stranger, &house), "by {knows:?}");
    let forwarded = |town: &Town| town.ruleset(&house.router).matches("dnat ip to").count();
    assert_eq!(forwarded(&town), 2, "{}", town.ruleset(&house.router));
    gateway.stop().await;
    assert_eq!(forwarded(&town), 0, "{}", town.ruleset(&house.router));
    assert!(!reaches(&stranger, &house));
}

#[tokio::test]
async fn by_pcp() {
    is_mapped_and_unmapped(Knows::Pcp).await;
}

#[tokio::test]
async fn by_nat_pmp() {
    is_mapped_and_unmapped(Knows::NatPmp).await;
}

#[tokio::test]
async fn by_upnp() {
    is_mapped_and_unmapped(Knows::Upnp).await;
}

#[tokio::test]
async fn a_router_that_knows_nothing_of_it_keeps_nobody_waiting() {
    let dir = scratch();
    let Some(mut town) = Town::build() else { return };
    let house = town.house(2);
    let Some(gateway) = house.host.gateway(dir.path(), &MAPPING).await else { return };
    let at_once = told(&gateway).await;
    assert_eq!(at_once["by"], "pcp", "it is ready while the first way is tried: {at_once}");
    let trouble = async || {
        let told = told(&gateway).await;
        (told["by"] == "upnp" && told["trouble"].is_string()).then_some(told)
    };
    let told = wait::until("all ways to be tried", MAPPED_WITHIN, trouble).await;
    assert_eq!((&told["ports"], &told["router"]), (&serde_json::json!([]), &house.router_inside.to_string().into()));
    gateway.stop().await;
}
