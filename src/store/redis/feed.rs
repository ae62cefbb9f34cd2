//! The subscription to many tokens' changes on one connection: a thread reads, others subscribe and unsubscribe meanwhile.

use super::failure::failure;
use super::stream::{Sender, Stream};
use super::subscription::parse;
use crate::clock;
use crate::locks::Mutex;
use crate::store::{Feed, Heard, StoreError, TokenName, Tuner};
use redis::{Cmd, Msg, RedisResult, cmd};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub struct RedisFeed {
    stream: Stream,
    tuner: Arc<RedisTuner>,
}

pub struct RedisTuner {
    io_timeout: Duration,
    channel: Box<dyn Fn(&TokenName) -> String + Send + Sync>,
    shared: Mutex<Shared>,
}

struct Shared {
    sender: Sender,
    /// What was sent and is not answered yet, in the order of the answers to come.
    asked: VecDeque<Asked>,
    /// By channel.
    followed: HashMap<String, TokenName>,
}

enum Asked {
    Follow(TokenName),
    Unfollow,
    Ping,
}

impl RedisFeed {
    pub fn new(
        stream: Stream,
        io_timeout: Duration,
        channel: impl Fn(&TokenName) -> String + Send + Sync + 'static,
    ) -> RedisResult<RedisFeed> {
        let shared = Shared { sender: stream.sender()?, asked: VecDeque::new(), followed: HashMap::new() };
        let tuner = RedisTuner { io_timeout, channel: Box::new(channel), shared: Mutex::new(shared) };
        Ok(RedisFeed { stream, tuner: Arc::new(tuner) })
    }
}

impl RedisTuner {
    fn ask(&self, shared: &mut Shared, asked: Asked, command: &Cmd) -> Result<(), StoreError> {
        // Before it is sent: the answer may come at once.
        shared.asked.push_back(asked);
        shared.sender.send(&command.get_packed_command(), clock::deadline(self.io_timeout)).map_err(failure)
    }
}

impl Tuner for RedisTuner {
    fn follow(&self, grant: &TokenName) -> Result<(), StoreError> {
        let channel = (self.channel)(grant);
        let mut shared = self.shared.lock();
        shared.followed.insert(channel.clone(), grant.clone());
        self.ask(&mut shared, Asked::Follow(grant.clone()), cmd("SUBSCRIBE").arg(channel))
    }

    fn unfollow(&self, grant: &TokenName) -> Result<(), StoreError> {
        let channel = (self.channel)(grant);
        let mut shared = self.shared.lock();
        shared.followed.remove(&channel);
        self.ask(&mut shared, Asked::Unfollow, cmd("UNSUBSCRIBE").arg(channel))
    }

    fn ping(&self) -> Result<(), StoreError> {
        self.ask(&mut self.shared.lock(), Asked::Ping, &cmd("PING"))
    }
}

impl Feed for RedisFeed {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Heard>, StoreError> {
        let deadline = clock::deadline(at_most.max(Duration::from_millis(1)));
        loop {
            let value = match self.stream.receive(deadline) {
                Err(error) if error.is_timeout() => return Ok(None),
                value => value.map_err(failure)?,
            };
            let mut shared = self.tuner.shared.lock();
            let heard = match Msg::from_value(&value) {
                Some(message) => {
                    let change = message.get_payload::<String>().ok().as_deref().and_then(parse);
                    let grant = shared.followed.get(message.get_channel_name()).cloned();
                    grant.zip(change).map(|(grant, change)| Heard::Changed(grant, change))
                }
                None => match (shared.asked.pop_front(), value.extract_error()) {
                    (Some(Asked::Follow(grant)), Err(error)) => Some(Heard::Refused(grant, failure(error))),
                    (Some(Asked::Follow(grant)), Ok(_)) => Some(Heard::Following(grant)),
                    // Whoever refuses a PING is there.
                    (Some(Asked::Ping), _) => Some(Heard::Pong),
                    (Some(Asked::Unfollow) | None, _) => None,
                },
            };
            if heard.is_some() {
                return Ok(heard);
            }
        }
    }

    fn tuner(&self) -> Arc<dyn Tuner> {
        self.tuner.clone()
    }
}
