//! A client that sends and reads single messages, for what other clients hide.

use std::io::{Read, Write};

use anyhow::{Context, Result, bail, ensure};
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

use crate::first_packet::startup;
use crate::server::{APP, PASSWORD};

/// One message from the server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Message {
    /// Its type byte.
    pub tag: u8,
    /// What follows its length.
    pub body: Vec<u8>,
}

/// What a server sends while a session starts.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct StartupReply {
    /// The backend's process id.
    pub process: u32,
    /// The secret that a CancelRequest needs.
    pub secret: Vec<u8>,
    /// The protocol version of a NegotiateProtocolVersion message, if there was one.
    pub negotiated: Option<u32>,
}

/// A connection over any stream: TCP, or TLS on top of it.
#[derive(Debug)]
pub struct RawClient<S> {
    /// The stream, for tests that shut it down or send half a message.
    pub stream: S,
}

impl<S: Read + Write> RawClient<S> {
    /// Starts a session as the application's user: StartupMessage, SCRAM, and everything up to ReadyForQuery.
    ///
    /// # Errors
    /// When the server reports an error.
    pub fn open(stream: S, protocol: u32, parameters: &[(&str, &str)]) -> Result<(Self, StartupReply)> {
        let mut client = Self { stream };
        let mut all = vec![("user", APP), ("database", APP)];
        all.extend(parameters);
        client.send(&startup(protocol, &all))?;
        let reply = client.finish_startup()?;
        Ok((client, reply))
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the stream breaks.
    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).context("send")?;
        self.stream.flush().context("flush")
    }

    /// Sends one message with its type and length.
    ///
    /// # Errors
    /// When the stream breaks.
    pub fn send_message(&mut self, tag: u8, body: &[u8]) -> Result<()> {
        self.send(&message(tag, body)?)
    }

    /// Reads one byte: the answer to SSLRequest and GSSENCRequest.
    ///
    /// # Errors
    /// When the stream breaks or ends.
    pub fn read_byte(&mut self) -> Result<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).context("read one byte")?;
        Ok(byte[0])
    }

    /// Reads one message.
    ///
    /// # Errors
    /// When the stream breaks or ends.
    pub fn read(&mut self) -> Result<Message> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).context("read a message's head")?;
        let [tag, length @ ..] = head;
        let length =
            u32::from_be_bytes(length).checked_sub(4).context("a message shorter than its length")?;
        let mut body = vec![0; usize::try_from(length)?];
        self.stream.read_exact(&mut body).context("read a message's body")?;
        Ok(Message { tag, body })
    }

    /// Reads messages up to and including ReadyForQuery.
    ///
    /// # Errors
    /// When the stream breaks or ends before that.
    pub fn read_until_ready(&mut self) -> Result<Vec<Message>> {
        let mut messages = Vec::new();
        loop {
            let message = self.read()?;
            let ready = message.tag == b'Z';
            messages.push(message);
            if ready {
                return Ok(messages);
            }
        }
    }

    /// Reads to the end of the stream. A reset counts as the end.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }

    /// Runs a query and returns the first column of each row as text.
    ///
    /// # Errors
    /// When the server reports an error.
    pub fn query(&mut self, sql: &str) -> Result<Vec<String>> {
        self.send_message(b'Q', &[sql.as_bytes(), b"\0"].concat())?;
        let messages = self.read_until_ready()?;
        if let Some(error) = messages.iter().find(|message| message.tag == b'E') {
            bail!("{}", error_text(error));
        }
        messages.iter().filter(|message| message.tag == b'D').map(first_column).collect()
    }

    fn finish_startup(&mut self) -> Result<StartupReply> {
        let mut reply = StartupReply::default();
        let mut scram = ScramSha256::new(PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let Message { tag, body } = self.read()?;
            match tag {
                b'R' => self.authenticate(&mut scram, &body)?,
                b'K' => {
                    ensure!(body.len() >= 8, "BackendKeyData of {} bytes", body.len());
                    reply.process = u32::from_be_bytes(body[..4].try_into()?);
                    reply.secret = body[4..].to_vec();
                }
                b'v' => reply.negotiated = Some(u32::from_be_bytes(body[..4].try_into()?)),
                b'E' => bail!("{}", error_text(&Message { tag, body })),
                b'Z' => return Ok(reply),
                // These tests need no ParameterStatus and no notices.
                _ => {}
            }
        }
    }

    fn authenticate(&mut self, scram: &mut ScramSha256, body: &[u8]) -> Result<()> {
        let (kind, rest) = body.split_at_checked(4).context("an authentication request without a kind")?;
        match u32::from_be_bytes(kind.try_into()?) {
            0 => Ok(()),
            10 => {
                let first = scram.message();
                let length = u32::try_from(first.len())?.to_be_bytes();
                self.send_message(b'p', &[SCRAM_SHA_256.as_bytes(), b"\0", &length, first].concat())
            }
            11 => {
                scram.update(rest).context("the server's first SCRAM message")?;
                self.send_message(b'p', scram.message())
            }
            12 => scram.finish(rest).context("the server's proof"),
            other => bail!("authentication of kind {other} instead of SCRAM"),
        }
    }
}

fn message(tag: u8, body: &[u8]) -> Result<Vec<u8>> {
    let length = u32::try_from(body.len() + 4).context("the message is too long")?;
    Ok([&[tag], &length.to_be_bytes()[..], body].concat())
}

/// `SQLSTATE: message` of an ErrorResponse, with its detail in brackets if it has one.
#[must_use]
pub fn error_text(error: &Message) -> String {
    let field = |wanted: u8| {
        let fields = error.body.split(|byte| *byte == 0).filter_map(|field| field.split_first());
        let found = fields.into_iter().find(|(code, _)| **code == wanted);
        found.map(|(_, text)| String::from_utf8_lossy(text).into_owned()).unwrap_or_default()
    };
    let detail = field(b'D');
    let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
    format!("{}: {}{detail}", field(b'C'), field(b'M'))
}

fn first_column(row: &Message) -> Result<String> {
    let length = row.body.get(2..6).context("a row without a column")?;
    let length = usize::try_from(i32::from_be_bytes(length.try_into()?)).context("a null")?;
    let value = row.body.get(6..6 + length).context("a row shorter than its column")?;
    Ok(String::from_utf8_lossy(value).into_owned())
}
