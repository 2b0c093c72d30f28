//! The side that dialled.

use swarmgate_content::InfoHash;

use crate::handshake::PROTOCOL;

use super::cipher::Keystream;
use super::exchange::{Entropy, KeyPair, field, torrent_mark};
use super::sync::find;
use super::{KEY_LEN, MAX_INITIAL_BYTES, MAX_PAD, Methods, MseError, Payload, Secured, VC_LEN};

/// The initiator of a handshake. Send what [`Self::poll_transmit`] gives, after [`Self::new`] and after each
/// [`Self::handle_input`], until that returns the stream.
pub struct Initiator {
    skey: InfoHash,
    methods: Methods,
    initial: Vec<u8>,
    entropy: Entropy,
    pair: KeyPair,
    state: State,
    pub(super) input: Vec<u8>,
    output: Vec<u8>,
}

/// What is waited for.
enum State {
    TheirKey,
    Sync { mark: [u8; VC_LEN], ciphers: Ciphers },
    Choice { ciphers: Ciphers },
    Pad { len: usize, payload: Payload, ciphers: Ciphers },
    Done,
}

struct Ciphers {
    reading: Keystream,
    writing: Keystream,
}

impl std::fmt::Debug for Initiator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Initiator({})", self.skey)
    }
}

impl Initiator {
    /// Begins a handshake about the torrent `skey`. `initial` goes along with it as the first payload; of more than
    /// [`MAX_INITIAL_BYTES`] the rest is not sent.
    #[must_use]
    pub fn new(skey: InfoHash, methods: Methods, mut initial: Vec<u8>, entropy: Entropy) -> Self {
        initial.truncate(MAX_INITIAL_BYTES);
        let pair = KeyPair::new(entropy.private);
        let output = entropy.opening(&pair);
        Self { skey, methods, initial, entropy, pair, state: State::TheirKey, input: Vec::new(), output }
    }

    /// What is to be sent now.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.output.is_empty()).then(|| std::mem::take(&mut self.output))
    }

    /// Takes what the other side sent, in pieces of any size. Gives the stream once the handshake is through.
    ///
    /// # Errors
    /// [`MseError`]; the connection is of no use then.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<Option<Secured>, MseError> {
        self.input.extend_from_slice(bytes);
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::TheirKey => {
                    if self.input.starts_with(PROTOCOL) {
                        return Err(MseError::InTheClear);
                    }
                    let Some(key) = self.input.first_chunk::<KEY_LEN>().copied() else {
                        return self.wait(State::TheirKey);
                    };
                    self.input.drain(..KEY_LEN);
                    self.state = self.on_key(&key)?;
                }
                State::Sync { mark, ciphers } => {
                    let Some(at) = find(&self.input, &mark)? else { return self.wait(State::Sync { mark, ciphers }) };
                    self.input.drain(..at + VC_LEN);
                    self.state = State::Choice { ciphers };
                }
                State::Choice { mut ciphers } => {
                    let Some(mut choice) = self.input.first_chunk::<6>().copied() else {
                        return self.wait(State::Choice { ciphers });
                    };
                    self.input.drain(..choice.len());
                    ciphers.reading.apply(&mut choice);
                    let [a, b, c, d, e, f] = choice;
                    let payload = self.methods.selected(u32::from_be_bytes([a, b, c, d]));
                    let payload = payload.ok_or(MseError::NothingInCommon)?;
                    let len = usize::from(u16::from_be_bytes([e, f]));
                    if len > MAX_PAD {
                        return Err(MseError::TooLong(len, MAX_PAD));
                    }
                    self.state = State::Pad { len, payload, ciphers };
                }
                State::Pad { len, payload, mut ciphers } => {
                    if self.input.len() < len {
                        return self.wait(State::Pad { len, payload, ciphers });
                    }
                    let mut pad: Vec<u8> = self.input.drain(..len).collect();
                    ciphers.reading.apply(&mut pad);
                    return Ok(Some(self.secured(payload, ciphers)));
                }
                State::Done => return Ok(None),
            }
        }
    }

    fn wait(&mut self, state: State) -> Result<Option<Secured>, MseError> {
        self.state = state;
        Ok(None)
    }

    /// Everything that is left to say, the first payload with it.
    fn on_key(&mut self, key: &[u8; KEY_LEN]) -> Result<State, MseError> {
        let secret = self.pair.agree(key)?;
        let (mut writing, mut reading) = (secret.of_initiator(&self.skey), secret.of_responder(&self.skey));
        self.output.extend(secret.mark());
        self.output.extend(secret.blind(torrent_mark(&self.skey)));
        let mut hidden = vec![0; VC_LEN];
        hidden.extend(self.methods.bits().to_be_bytes());
        hidden.extend(self.entropy.inner_pad());
        hidden.extend(field(self.initial.len()));
        hidden.append(&mut self.initial);
        writing.apply(&mut hidden);
        self.output.append(&mut hidden);
        // The responder's constant is zeros, so what it looks like is the keystream itself.
        let mut mark = [0; VC_LEN];
        reading.apply(&mut mark);
        Ok(State::Sync { mark, ciphers: Ciphers { reading, writing } })
    }

    fn secured(&mut self, payload: Payload, ciphers: Ciphers) -> Secured {
        let mut received = std::mem::take(&mut self.input);
        let (reading, writing) = match payload {
            Payload::Plain => (None, None),
            Payload::Rc4 => {
                let Ciphers { mut reading, writing } = ciphers;
                reading.apply(&mut received);
                (Some(reading), Some(writing))
            }
        };
        Secured { skey: self.skey, payload, received, reading, writing }
    }
}
