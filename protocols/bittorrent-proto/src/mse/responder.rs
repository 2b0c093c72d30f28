//! The side that was dialled.

use swarmgate_content::InfoHash;

use super::cipher::Keystream;
use super::exchange::{Entropy, KeyPair, Secret, torrent_mark};
use super::sync::find;
use super::{MAX_INITIAL_BYTES, MAX_PAD, Methods, MseError, Payload, Secured, VC_LEN};

/// Bytes of the offer: the constant, what is provided, the padding's length.
const OFFER_LEN: usize = VC_LEN + 4 + 2;

/// The responder of a handshake. It says nothing before the initiator's key has come; after that, send what
/// [`Self::poll_transmit`] gives.
pub struct Responder {
    methods: Methods,
    entropy: Entropy,
    pair: KeyPair,
    state: State,
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
}

/// What is waited for.
enum State {
    TheirKey,
    Sync { secret: Secret },
    Torrent { secret: Secret },
    Offer { streams: Streams },
    Pad { len: usize, payload: Payload, streams: Streams },
    Initial { len: usize, payload: Payload, streams: Streams },
    Done,
}

struct Streams {
    skey: InfoHash,
    reading: Keystream,
    writing: Keystream,
}

impl std::fmt::Debug for Responder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Responder({:?})", self.methods)
    }
}

impl Responder {
    /// Waits for an initiator; of the ways that it provides, the first of `methods` is taken.
    #[must_use]
    pub fn new(methods: Methods, entropy: Entropy) -> Self {
        let pair = KeyPair::new(entropy.private);
        Self { methods, entropy, pair, state: State::TheirKey, input: Vec::new(), output: Vec::new() }
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// Takes what the other side sent, in pieces of any size; `torrents` are those it may be about. Gives the stream
    /// once the handshake is through, with the first payload in it.
    ///
    /// # Errors
    /// [`MseError`]; the connection is of no use then.
    pub fn handle_input<I: IntoIterator<Item = InfoHash>>(
        &mut self,
        bytes: &[u8],
        torrents: impl Fn() -> I,
    ) -> Result<Option<Secured>, MseError> {
        self.input.extend_from_slice(bytes);
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::TheirKey => {
                    let Some(key) = self.take() else { return self.wait(State::TheirKey) };
                    let secret = self.pair.agree(&key)?;
                    self.output.extend(self.entropy.opening(&self.pair));
                    self.state = State::Sync { secret };
                }
                State::Sync { secret } => {
                    let mark = secret.mark();
                    let Some(at) = find(&self.input, &mark)? else { return self.wait(State::Sync { secret }) };
                    self.input.drain(..at + mark.len());
                    self.state = State::Torrent { secret };
                }
                State::Torrent { secret } => {
                    let Some(blinded) = self.take() else { return self.wait(State::Torrent { secret }) };
                    let mark = secret.blind(blinded);
                    let skey = torrents().into_iter().find(|skey| torrent_mark(skey) == mark);
                    let skey = skey.ok_or(MseError::UnknownTorrent)?;
                    let (reading, writing) = (secret.of_initiator(&skey), secret.of_responder(&skey));
                    self.state = State::Offer { streams: Streams { skey, reading, writing } };
                }
                State::Offer { mut streams } => {
                    let Some(mut offer) = self.take::<OFFER_LEN>() else { return self.wait(State::Offer { streams }) };
                    streams.reading.apply(&mut offer);
                    let (payload, len) = self.on_offer(offer)?;
                    self.state = State::Pad { len, payload, streams };
                }
                State::Pad { len, payload, mut streams } => {
                    if self.input.len() < len + 2 {
                        return self.wait(State::Pad { len, payload, streams });
                    }
                    let mut pad: Vec<u8> = self.input.drain(..len + 2).collect();
                    streams.reading.apply(&mut pad);
                    let len = usize::from(u16::from_be_bytes([pad[len], pad[len + 1]]));
                    if len > MAX_INITIAL_BYTES {
                        return Err(MseError::TooLong(len, MAX_INITIAL_BYTES));
                    }
                    self.state = State::Initial { len, payload, streams };
                }
                State::Initial { len, payload, streams } => {
                    if self.input.len() < len {
                        return self.wait(State::Initial { len, payload, streams });
                    }
                    return Ok(Some(self.secured(len, payload, streams)));
                }
                State::Done => return Ok(None),
            }
        }
    }

    fn wait(&mut self, state: State) -> Result<Option<Secured>, MseError> {
        self.state = state;
        Ok(None)
    }

    fn take<const LEN: usize>(&mut self) -> Option<[u8; LEN]> {
        let taken = self.input.first_chunk::<LEN>().copied()?;
        self.input.drain(..LEN);
        Some(taken)
    }

    /// How the payload will go, and how long the padding behind the offer is.
    fn on_offer(&self, offer: [u8; OFFER_LEN]) -> Result<(Payload, usize), MseError> {
        let (constant, rest) = offer.split_at(VC_LEN);
        let &[a, b, c, d, e, f] = rest else { return Err(MseError::Garbled) };
        if constant != [0; VC_LEN] {
            return Err(MseError::Garbled);
        }
        let len = usize::from(u16::from_be_bytes([e, f]));
        if len > MAX_PAD {
            return Err(MseError::TooLong(len, MAX_PAD));
        }
        let payload = self.methods.select(u32::from_be_bytes([a, b, c, d])).ok_or(MseError::NothingInCommon)?;
        Ok((payload, len))
    }

    fn secured(&mut self, initial: usize, payload: Payload, streams: Streams) -> Secured {
        let Streams { skey, mut reading, mut writing } = streams;
        let mut answer = vec![0; VC_LEN];
        answer.extend(payload.bit().to_be_bytes());
        answer.extend(self.entropy.inner_pad());
        writing.apply(&mut answer);
        self.output.append(&mut answer);
        let mut received = std::mem::take(&mut self.input);
        // The first payload is always encrypted; what follows goes as was selected.
        let (reading, writing) = match payload {
            Payload::Plain => {
                reading.apply(&mut received[..initial]);
                (None, None)
            }
            Payload::Rc4 => {
                reading.apply(&mut received);
                (Some(reading), Some(writing))
            }
        };
        Secured { skey, payload, received, reading, writing }
    }
}
