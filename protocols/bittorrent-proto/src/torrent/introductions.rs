//! What peers are told of us (BEP 10, 21) and of each other (BEP 11, 55). The metadata has to allow the latter first: nobody is
//! told of a peer of a torrent that may yet turn out private (BEP 27).

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::session::MAX_UPLOAD_QUEUE;
use super::{DropReason, LT_DONTHAVE, Session, Torrent, TorrentEvent, Transport, UT_HOLEPUNCH, UT_METADATA, UT_PEX};
use crate::exchange::{Contact, ExchangeOptions, FLAG_SEED, FLAG_UTP, PeerExchange};
use crate::extension::ExtensionHandshake;
use crate::holepunch::{FLAG_HOLEPUNCH, Holepunch, HolepunchAction};
use crate::picker::PeerKey;
use crate::wire::Message;

impl Torrent {
    /// From now on peers are introduced to each other. To be called before the first peer comes.
    pub fn exchange_peers(&mut self, options: ExchangeOptions) {
        self.exchange = Some(PeerExchange::new(options));
        self.holepunch = options.holepunch.then(|| Holepunch::new(options.listen_port, options.is_public));
    }

    /// The world reaches us by this port from now on. Everybody is told, once.
    pub fn set_listen_port(&mut self, port: Option<u16>) {
        let Some(exchange) = self.exchange.as_mut().filter(|exchange| exchange.listen_port() != port) else { return };
        exchange.set_listen_port(port);
        if let Some(holepunch) = &mut self.holepunch {
            holepunch.set_listen_port(port);
        }
        self.greet_again(false);
    }

    /// The torrent is private: nobody is told of anybody, and what is told is not heard.
    pub fn keep_private(&mut self) {
        if self.exchange.take().is_none() {
            return;
        }
        self.holepunch = None;
        self.greet_again(true);
    }

    /// Where a peer is that was added just now.
    pub fn set_contact(&mut self, now: Instant, key: PeerKey, contact: Contact) {
        if let Some(exchange) = self.exchange.as_mut().filter(|_| self.sessions.contains_key(&key)) {
            exchange.join(key, contact);
            exchange.settle(now);
            if let Some(holepunch) = &mut self.holepunch {
                holepunch.join(key, contact);
            }
        }
    }

    /// What a peer is told of us in an extension handshake.
    pub(super) fn our_hello(&self, transport: Transport) -> ExtensionHandshake {
        let exchange = self.exchange.as_ref().filter(|_| has_address(transport));
        ExtensionHandshake {
            ut_metadata: Some(UT_METADATA),
            ut_pex: exchange.map(|_| UT_PEX),
            lt_donthave: Some(LT_DONTHAVE),
            ut_holepunch: self.holepunch.as_ref().filter(|_| has_address(transport)).map(|_| UT_HOLEPUNCH),
            metadata_size: self.known.as_ref().and_then(|known| u32::try_from(known.info.len()).ok()),
            reqq: u32::try_from(MAX_UPLOAD_QUEUE).ok(),
            client: Some(concat!("swarmgate ", env!("CARGO_PKG_VERSION")).to_owned()),
            listen_port: exchange.and_then(PeerExchange::listen_port),
            your_ip: None,
            upload_only: self.is_complete(),
        }
    }

    /// Says hello once more to everybody, for what has changed; `private` takes the offer of introductions back. All of it is
    /// said: clients forget the extensions that a later handshake leaves out.
    fn greet_again(&mut self, private: bool) {
        let greetings = [Transport::Tcp, Transport::WebRtc].map(|transport| {
            let hello = self.our_hello(transport);
            let hello = if private && has_address(transport) {
                ExtensionHandshake { ut_pex: Some(0), ut_holepunch: Some(0), ..hello }
            } else {
                hello
            };
            (has_address(transport), Bytes::from(hello.encode()))
        });
        for session in self.sessions.values_mut().filter(|session| session.extended) {
            let fitting = greetings.iter().find(|(with_address, _)| *with_address == has_address(session.transport));
            if let Some((_, payload)) = fitting {
                session.send(&Message::Extended { id: 0, payload: payload.clone() });
            }
        }
    }

    /// Whether everything is here.
    pub(super) fn is_complete(&self) -> bool {
        self.known.as_ref().is_some_and(|known| known.picker.have().is_all())
    }

    /// Tells everybody when we begin or cease to want nothing (BEP 21).
    pub(super) fn tell_upload_only(&mut self) {
        let complete = self.is_complete();
        if std::mem::replace(&mut self.upload_only, complete) != complete {
            self.greet_again(false);
        }
    }

    pub(super) fn exchange_timeout(&self) -> Option<Instant> {
        self.exchange.as_ref().filter(|_| self.known.is_some())?.poll_timeout()
    }

    pub(super) fn note_contact(&mut self, key: PeerKey, hello: &ExtensionHandshake) {
        let Some(exchange) = &mut self.exchange else { return };
        if let Some(holepunch) = &mut self.holepunch {
            holepunch.on_hello(key, hello);
        }
        if let Some(address) = exchange.on_hello(key, hello.ut_pex, hello.listen_port) {
            self.events.push_back(TorrentEvent::Listens { peer: key, address });
        }
        if let Some(at) = hello.your_ip {
            self.events.push_back(TorrentEvent::SeenAt { peer: key, at });
        }
    }

    pub(super) fn on_peer_exchange(&mut self, now: Instant, key: PeerKey, payload: &[u8]) -> Result<(), DropReason> {
        let Some(exchange) = &mut self.exchange else { return Ok(()) };
        let found = exchange.on_message(now, key, payload).map_err(|error| DropReason::Extension(error.to_string()))?;
        if let Some(holepunch) = &mut self.holepunch {
            holepunch.on_told(key, &found);
        }
        if !found.is_empty() {
            let addresses = found.iter().map(|peer| peer.address).collect();
            self.events.push_back(TorrentEvent::PeersFound(addresses));
        }
        Ok(())
    }

    /// No dial reaches a peer: whoever told of it is asked to lead us to it (BEP 55).
    pub fn seek_introduction(&mut self, now: Instant, address: SocketAddr) {
        let action = self.holepunch.as_mut().and_then(|holepunch| holepunch.seek(now, address));
        self.punch(action);
    }

    pub(super) fn on_holepunch(&mut self, now: Instant, key: PeerKey, payload: &[u8]) -> Result<(), DropReason> {
        let may_relay = self.known.is_some();
        let Some(holepunch) = &mut self.holepunch else { return Ok(()) };
        let actions = holepunch.on_message(now, key, payload, may_relay);
        self.punch(actions.map_err(|error| DropReason::Extension(error.to_string()))?);
        Ok(())
    }

    fn punch(&mut self, actions: impl IntoIterator<Item = HolepunchAction>) {
        for action in actions {
            match action {
                HolepunchAction::Dial(address) => self.events.push_back(TorrentEvent::Punch(address)),
                HolepunchAction::Send { to, id, message } => {
                    if let Some(session) = self.sessions.get_mut(&to).filter(|session| session.keeps_up()) {
                        session.send(&Message::Extended { id, payload: message.encode().into() });
                    }
                }
            }
        }
    }

    pub(super) fn introduce_peers(&mut self, now: Instant) {
        if self.known.is_none() {
            return;
        }
        let Some(exchange) = &mut self.exchange else { return };
        let (sessions, holepunch) = (&mut self.sessions, &self.holepunch);
        let punches = |key| holepunch.as_ref().is_some_and(|holepunch| holepunch.knows(key));
        let messages = exchange.handle_timeout(now, |key| {
            sessions.get(&key).map_or(0, features) | if punches(key) { FLAG_HOLEPUNCH } else { 0 }
        });
        for (key, id, message) in messages {
            if let Some(session) = sessions.get_mut(&key).filter(|session| session.keeps_up()) {
                session.send(&Message::Extended { id, payload: message.encode().into() });
            }
        }
    }
}

/// What BEP 11 tells of a peer.
const fn features(session: &Session) -> u8 {
    let seed = if session.has_all || session.upload_only { FLAG_SEED } else { 0 };
    let utp = if matches!(session.transport, Transport::Utp) { FLAG_UTP } else { 0 };
    seed | utp
}

/// Whether peers over this have an address that others could dial.
const fn has_address(transport: Transport) -> bool {
    match transport {
        Transport::Tcp | Transport::Utp => true,
        Transport::WebRtc => false,
    }
}
