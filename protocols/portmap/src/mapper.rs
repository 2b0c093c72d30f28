//! The task that keeps ports forwarded: waits for the router's word or the clock, hands it to the rules, does what they say.
//!
//! The socket comes from outside, bound at the start, and nobody waits for any of this: what is forwarded is told as news.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rand::RngExt as _;
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::exchange;
use crate::igd::{self, CONFLICT, IgdError, ONLY_PERMANENT, Service};
use crate::leases::{Forwarding, LIFETIME, Leases, Step, Transport, UpnpLease, UpnpOutcome, Wanted, Way};
use crate::router::Router;
use crate::wire::{MAX_BYTES, PORT};

/// How often it is looked which router the system names.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// How long devices may take to answer a search; they are told to take one second at most.
const SEARCH_WITHIN: Duration = Duration::from_secs(2);
/// Ports outside that are tried over UPnP when the first is another's.
const PORT_CHANCES: u32 = 3;
/// From where those are chosen.
const OTHER_PORTS: std::ops::Range<u16> = 20_000..60_000;
/// How long taking everything back may take at the end.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// Between two of the same farewell, in case one is lost.
const FAREWELL_PAUSE: Duration = Duration::from_millis(100);
/// How long reading rests after an error of the socket.
const READ_PAUSE: Duration = Duration::from_millis(200);

/// What is to be forwarded.
#[derive(Debug, Clone, Default)]
pub struct MapperOptions {
    /// The ports. More than a handful is not meant.
    pub ports: Vec<Wanted>,
    /// Where the router is and on which port it listens; `None`: where the system says, on its usual port.
    pub router: Option<(Router, u16)>,
}

/// How it stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MappingStatus {
    /// The router that is asked, if the system names one.
    pub router: Option<IpAddr>,
    /// By which way it is asked, or is asked now.
    pub way: Option<Way>,
    /// What it forwards.
    pub forwardings: Vec<Forwarding>,
    /// Why something is not forwarded, in words.
    pub trouble: Option<String>,
}

impl MappingStatus {
    /// The port outside that leads to one of ours.
    #[must_use]
    pub fn outside(&self, transport: Transport, port: u16) -> Option<u16> {
        let wanted = Wanted { transport, port };
        self.forwardings.iter().find(|held| held.wanted == wanted).map(|held| held.port)
    }
}

/// Keeps ports forwarded. Its owner must call [`Self::shutdown`], which takes them back.
#[derive(Debug)]
pub struct PortMapper {
    status: watch::Receiver<MappingStatus>,
    stop: CancellationToken,
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

struct Worker {
    socket: Arc<UdpSocket>,
    options: MapperOptions,
    status: watch::Sender<MappingStatus>,
    stop: CancellationToken,
}

/// One router, for as long as the system names it.
struct Round<'a> {
    worker: &'a Worker,
    router: Router,
    to: SocketAddr,
    leases: Leases,
    service: Option<Service>,
}

impl PortMapper {
    /// Begins to ask. Must be called within a runtime.
    #[must_use]
    pub fn start(socket: UdpSocket, options: MapperOptions) -> Self {
        let (status, receiver) = watch::channel(MappingStatus::default());
        let stop = CancellationToken::new();
        let worker = Worker { socket: Arc::new(socket), options, status, stop: stop.clone() };
        let task = AbortOnDropHandle::new(tokio::spawn(worker.run()));
        Self { status: receiver, stop, task: Mutex::new(Some(task)) }
    }

    /// How it stands, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<MappingStatus> {
        self.status.clone()
    }

    /// Takes back what is forwarded, as far as the router hears it within two seconds.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            // The task is cancelled, not aborted: a join error could only be its panic, already reported.
            let _ = task.await;
        }
    }
}

impl Worker {
    async fn run(self) {
        while !self.stop.is_cancelled() {
            let Some((router, port)) = self.find() else {
                let trouble = Some("the system names no router".to_owned());
                self.tell(MappingStatus { trouble, ..MappingStatus::default() });
                self.pause(LOOK_EVERY).await;
                continue;
            };
            let ports = self.options.ports.iter().map(|wanted| (*wanted, rand::random()));
            let leases = Leases::new(Instant::now(), router.local, ports);
            let to = SocketAddr::new(router.address.into(), port);
            Round { worker: &self, router, to, leases, service: None }.run().await;
        }
        self.tell(MappingStatus::default());
    }

    fn find(&self) -> Option<(Router, u16)> {
        self.options.router.or_else(|| Some((Router::of_system()?, PORT)))
    }

    async fn pause(&self, time: Duration) {
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = tokio::time::sleep(time) => {}
        }
    }

    fn tell(&self, status: MappingStatus) {
        self.status.send_if_modified(|told| {
            let news = *told != status;
            if news {
                log(told, &status);
                *told = status;
            }
            news
        });
    }
}

impl Round<'_> {
    /// Until it is to stop, or the system names another router.
    async fn run(mut self) {
        let mut buffer = [0; MAX_BYTES];
        let stop = self.worker.stop.clone();
        loop {
            let carried_out = stop.run_until_cancelled(self.carry_out()).await;
            if carried_out.is_none() {
                break;
            }
            self.tell();
            let look = Instant::now() + LOOK_EVERY;
            let until = self.leases.poll_timeout().map_or(look, |at| at.min(look));
            tokio::select! {
                () = stop.cancelled() => break,
                received = self.worker.socket.recv_from(&mut buffer) => self.hear(received, &buffer).await,
                () = tokio::time::sleep_until(until.into()) => {
                    if self.worker.find().is_none_or(|(router, _)| router != self.router) {
                        return;
                    }
                }
            }
        }
        if tokio::time::timeout(RELEASE_WITHIN, self.release()).await.is_err() {
            tracing::debug!("the router did not take all forwardings back in time");
        }
    }

    async fn hear(&mut self, received: io::Result<(usize, SocketAddr)>, buffer: &[u8]) {
        match received {
            Ok((len, from)) if from == self.to => {
                self.leases.on_datagram(Instant::now(), buffer.get(..len).unwrap_or_default());
            }
            // Nobody else is believed.
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "the router's answers cannot be read");
                tokio::time::sleep(READ_PAUSE).await;
            }
        }
    }

    async fn carry_out(&mut self) {
        for step in self.leases.handle_timeout(Instant::now()) {
            match step {
                Step::Send(bytes) => self.send(&bytes, self.to).await,
                Step::Upnp(wanted) => {
                    let outcome = self.forward_by_upnp(wanted).await;
                    self.leases.on_upnp(Instant::now(), wanted, outcome);
                }
                Step::UpnpDelete(transport, port) => self.delete_by_upnp(transport, port).await,
            }
        }
    }

    async fn send(&self, bytes: &[u8], to: SocketAddr) {
        if let Err(error) = self.worker.socket.send_to(bytes, to).await {
            tracing::debug!(%to, %error, "a router cannot be asked");
        }
    }

    fn tell(&self) {
        self.worker.tell(MappingStatus {
            router: Some(self.router.address.into()),
            way: Some(self.leases.way()),
            forwardings: self.leases.forwardings().collect(),
            trouble: self.leases.trouble().map(str::to_owned),
        });
    }

    async fn release(&mut self) {
        let steps = self.leases.release();
        for _ in 0..2 {
            for step in &steps {
                if let Step::Send(bytes) = step {
                    self.send(bytes, self.to).await;
                }
            }
            tokio::time::sleep(FAREWELL_PAUSE).await;
        }
        for step in steps {
            if let Step::UpnpDelete(transport, port) = step {
                self.delete_by_upnp(transport, port).await;
            }
        }
    }

    // --- UPnP ------------------------------------------------------------------------------------------------------

    async fn forward_by_upnp(&mut self, wanted: Wanted) -> UpnpOutcome {
        let service = match self.service.take() {
            Some(service) => service,
            None => self.discover().await?,
        };
        let outcome = self.add(&service, wanted).await;
        // Whoever fails is searched for again: it may have moved.
        let (port, lifetime) = outcome?;
        let (action, body) = (service.action("GetExternalIPAddress"), service.address());
        let told = exchange::act(service.host, &service.path, &action, &body).await;
        let address = told.ok().and_then(|answer| igd::external_address(&answer.body));
        self.service = Some(service);
        Ok(UpnpLease { port, address, lifetime })
    }

    /// Adds a forwarding under the port's own number, or under another when that is taken.
    async fn add(&self, service: &Service, wanted: Wanted) -> Result<(u16, Duration), String> {
        let held = self.leases.forwardings().find(|held| held.wanted == wanted);
        let (mut port, mut lifetime) = (held.map_or(wanted.port, |held| held.port), LIFETIME);
        for _ in 0..=PORT_CHANCES {
            let body = service.add(self.router.local, wanted, port, lifetime);
            let answer = exchange::act(service.host, &service.path, &service.action("AddPortMapping"), &body).await;
            let answer = answer.map_err(|error| format!("UPnP: {error}"))?;
            match igd::outcome(answer.status, &answer.body) {
                Ok(()) => return Ok((port, lifetime)),
                Err(IgdError::Refused { code: ONLY_PERMANENT, .. }) if !lifetime.is_zero() => lifetime = Duration::ZERO,
                Err(IgdError::Refused { code: CONFLICT, .. }) => port = rand::rng().random_range(OTHER_PORTS),
                Err(error) => return Err(format!("UPnP: {error}")),
            }
        }
        Err("UPnP: no port is free".to_owned())
    }

    async fn delete_by_upnp(&self, transport: Transport, port: u16) {
        let Some(service) = &self.service else { return };
        let body = service.delete(transport, port);
        let answer = exchange::act(service.host, &service.path, &service.action("DeletePortMapping"), &body).await;
        if let Err(error) = answer {
            tracing::debug!(%error, "a forwarding was not taken back");
        }
    }

    /// Searches for the router's own word on UPnP, and reads its description.
    async fn discover(&self) -> Result<Service, String> {
        let unicast = SocketAddr::new(self.router.address.into(), igd::SEARCH.port());
        for (to, version) in [(igd::SEARCH, 1), (igd::SEARCH, 2), (unicast, 1)] {
            self.send(igd::search(to, version).as_bytes(), to).await;
        }
        let found = tokio::time::timeout(SEARCH_WITHIN, self.first_found()).await;
        let (host, path) = found.map_err(|_| "UPnP: the router does not answer".to_owned())?;
        let answer = exchange::get(host, &path).await.map_err(|error| format!("UPnP: {error}"))?;
        Service::parse(&answer.body, host, &path).map_err(|error| format!("UPnP: {error}"))
    }

    async fn first_found(&self) -> (SocketAddr, String) {
        let mut buffer = [0; igd::MAX_FOUND_BYTES];
        loop {
            match self.worker.socket.recv_from(&mut buffer).await {
                Ok((len, from)) if from.ip() == IpAddr::V4(self.router.address) => {
                    if let Some(found) = igd::found(buffer.get(..len).unwrap_or_default(), from.ip()) {
                        return found;
                    }
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(READ_PAUSE).await,
            }
        }
    }
}

/// Says what came and went.
fn log(before: &MappingStatus, now: &MappingStatus) {
    let same = |a: &Forwarding, b: &Forwarding| (a.wanted, a.port, a.address) == (b.wanted, b.port, b.address);
    for held in now.forwardings.iter().filter(|held| !before.forwardings.iter().any(|it| same(it, held))) {
        let Wanted { transport, port } = held.wanted;
        let (outside, address) = (held.port, held.address.map(tracing::field::display));
        tracing::info!(?transport, port, outside, address, way = ?now.way, "the router forwards a port");
    }
    if let Some(trouble) = now.trouble.as_ref().filter(|_| now.trouble != before.trouble) {
        tracing::info!(trouble, "the router does not forward all ports");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const WANTED: Wanted = Wanted { transport: Transport::Tcp, port: 8421 };
    const SOON: Duration = Duration::from_secs(5);

    /// A router that knows PCP, forwards under a port of its own choice, and notes the lives it is asked for.
    async fn router() -> (Arc<UdpSocket>, SocketAddr, Arc<Mutex<Vec<u32>>>) {
        let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let (address, asked) = (socket.local_addr().unwrap(), Arc::<Mutex<Vec<u32>>>::default());
        let (near, log) = (Arc::clone(&socket), Arc::clone(&asked));
        tokio::spawn(async move {
            let mut request = [0; MAX_BYTES];
            while let Ok((60, from)) = near.recv_from(&mut request).await {
                log.lock().push(u32::from_be_bytes(request[4..8].try_into().unwrap()));
                let mut answer = request[..60].to_vec();
                (answer[1], answer[2], answer[3]) = (0x81, 0, 0);
                answer[8..24].fill(0);
                answer[42..44].copy_from_slice(&50_000_u16.to_be_bytes());
                answer[44..60].copy_from_slice(&Ipv4Addr::new(8, 0, 0, 2).to_ipv6_mapped().octets());
                near.send_to(&answer, from).await.unwrap();
            }
        });
        (socket, address, asked)
    }

    async fn mapper(router: SocketAddr) -> PortMapper {
        let at = Router { address: Ipv4Addr::LOCALHOST, local: Ipv4Addr::LOCALHOST };
        let options = MapperOptions { ports: vec![WANTED], router: Some((at, router.port())) };
        PortMapper::start(UdpSocket::bind("127.0.0.1:0").await.unwrap(), options)
    }

    #[tokio::test]
    async fn a_port_is_forwarded_told_of_and_taken_back_at_the_end() {
        let (_socket, address, asked) = router().await;
        let mapper = mapper(address).await;
        let mut status = mapper.status();
        let told = tokio::time::timeout(SOON, status.wait_for(|status| !status.forwardings.is_empty())).await;
        let told = told.unwrap().unwrap().clone();
        assert_eq!(told.outside(Transport::Tcp, 8421), Some(50_000));
        assert_eq!((told.way, told.forwardings[0].address), (Some(Way::Pcp), Some([8, 0, 0, 2].into())));
        tokio::time::timeout(SOON, mapper.shutdown()).await.unwrap();
        let asked = asked.lock().clone();
        assert_eq!((asked.first(), asked.last()), (Some(&7200), Some(&0)));
        assert!(status.borrow().forwardings.is_empty());
    }

    #[tokio::test]
    async fn a_stranger_in_the_house_is_not_the_router() {
        let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mapper = mapper(silent.local_addr().unwrap()).await;
        let mut request = [0; MAX_BYTES];
        let (len, from) = silent.recv_from(&mut request).await.unwrap();
        let mut answer = request[..len].to_vec();
        (answer[1], answer[2], answer[3]) = (0x81, 0, 0);
        let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        stranger.send_to(&answer, from).await.unwrap();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(mapper.status().borrow().forwardings.is_empty());
        silent.send_to(&answer, from).await.unwrap();
        let mut status = mapper.status();
        tokio::time::timeout(SOON, status.wait_for(|status| !status.forwardings.is_empty())).await.unwrap().unwrap();
        mapper.shutdown().await;
    }
}
