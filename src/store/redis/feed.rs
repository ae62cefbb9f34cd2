//! The subscription to many tokens' changes on one connection: its thread reads and sends, others say meanwhile what they wish.

use super::connect::Connector;
use super::failure::failure;
use super::stream::Stream;
use super::subscription::parse;
use super::target::Target;
use super::waker::Waker;
use crate::clock;
use crate::locks::Mutex;
use crate::store::{Feed, Heard, StoreError, Topic, Tuner};
use redis::{Msg, RedisResult, Value, cmd};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many channels one command names, and how many answers may be outstanding when the next one is sent: what a server has not
/// sent yet counts against the limit that it has for a subscriber, beyond the first 16 kB.
const AT_ONCE: usize = 100;
/// How long a read takes at most of what is known to be there; on systems that cannot wait for two things, how long it looks.
const A_MOMENT: Duration = if cfg!(unix) { Duration::from_millis(1) } else { Duration::from_millis(20) };

type Channel = Box<dyn Fn(&Topic) -> String + Send>;

pub struct RedisFeed {
    connector: Arc<Connector>,
    channel: Channel,
    target: Target,
    stream: Stream,
    tuner: Arc<RedisTuner>,
    /// By channel.
    followed: HashMap<String, Topic>,
    /// What was sent and is not answered yet, in the order of the answers to come.
    asked: VecDeque<Asked>,
    heard: VecDeque<Heard>,
}

pub struct RedisTuner {
    wishes: Mutex<VecDeque<Wish>>,
    waker: Waker,
}

enum Wish {
    Follow(Topic),
    Unfollow(Topic),
    Ping,
}

/// A command, and of what its answers are, one each.
enum Asked {
    Follow(VecDeque<Topic>),
    Unfollow(usize),
    Ping,
    /// A ping of the feed's own: behind its answer nothing comes that counts.
    End,
}

impl Asked {
    /// Returns how many are still to come.
    fn answers(&self) -> usize {
        match self {
            Asked::Follow(topics) => topics.len(),
            Asked::Unfollow(left) => *left,
            Asked::Ping | Asked::End => 1,
        }
    }
}

impl RedisFeed {
    pub fn open(connector: Arc<Connector>, channel: Channel) -> RedisResult<RedisFeed> {
        let (target, stream) = connector.open("")?;
        let tuner = Arc::new(RedisTuner { wishes: Mutex::default(), waker: Waker::new()? });
        let (followed, asked, heard) = Default::default();
        Ok(RedisFeed { connector, channel, target, stream, tuner, followed, asked, heard })
    }

    /// Sends what was wished, as far as the server is not behind with its answers.
    fn send_wishes(&mut self) -> RedisResult<()> {
        let mut wishes = self.tuner.wishes.lock();
        let mut commands = Vec::new();
        let mut unanswered: usize = self.asked.iter().map(Asked::answers).sum();
        while unanswered < AT_ONCE
            && let Some(wish) = wishes.pop_front()
        {
            let command = match wish {
                Wish::Ping => {
                    self.asked.push_back(Asked::Ping);
                    cmd("PING")
                }
                Wish::Follow(topic) => {
                    let mut topics = VecDeque::from([topic]);
                    while topics.len() < AT_ONCE
                        && let Some(Wish::Follow(_)) = wishes.front()
                        && let Some(Wish::Follow(topic)) = wishes.pop_front()
                    {
                        topics.push_back(topic);
                    }
                    let channels: Vec<String> = topics.iter().map(&self.channel).collect();
                    let command = cmd("SUBSCRIBE").arg(&channels).take();
                    self.followed.extend(channels.into_iter().zip(topics.iter().cloned()));
                    self.asked.push_back(Asked::Follow(topics));
                    command
                }
                Wish::Unfollow(topic) => {
                    let mut channels = vec![(self.channel)(&topic)];
                    while channels.len() < AT_ONCE
                        && let Some(Wish::Unfollow(topic)) = wishes.front()
                    {
                        channels.push((self.channel)(topic));
                        wishes.pop_front();
                    }
                    channels.iter().for_each(|channel| drop(self.followed.remove(channel)));
                    self.asked.push_back(Asked::Unfollow(channels.len()));
                    cmd("UNSUBSCRIBE").arg(channels).take()
                }
            };
            commands.extend(command.get_packed_command());
            unanswered += self.asked.back().map_or(0, Asked::answers);
        }
        drop(wishes);
        match commands.is_empty() {
            true => Ok(()),
            false => self.stream.send(&commands, clock::deadline(self.connector.io_timeout)),
        }
    }

    /// Takes in what came until the deadline, or only what has come already; false if nothing did.
    fn receive(&mut self, deadline: Instant) -> RedisResult<bool> {
        let value = match self.stream.receive(deadline) {
            Err(error) if error.is_timeout() => return Ok(false),
            value => value?,
        };
        match Msg::from_value(&value) {
            Some(message) => self.heard.extend(changed(&self.followed, &message)),
            None => self.take_answer(value),
        }
        Ok(true)
    }

    fn take_answer(&mut self, value: Value) {
        let refusal = value.extract_error().err();
        let is_answered = match (self.asked.front_mut(), refusal) {
            (Some(Asked::Follow(topics)), None) => {
                self.heard.extend(topics.pop_front().map(Heard::Following));
                topics.is_empty()
            }
            (Some(Asked::Follow(topics)), Some(error)) => {
                let error = failure(error);
                let refused = |topic| Heard::Refused(topic, StoreError::new(error.kind(), error.to_string()));
                self.heard.extend(topics.drain(..).map(refused));
                true
            }
            (Some(Asked::Unfollow(left)), refusal) => {
                *left -= 1;
                *left == 0 || refusal.is_some()
            }
            // Whoever refuses a PING is there.
            (Some(Asked::Ping), _) => {
                self.heard.push_back(Heard::Pong);
                true
            }
            (Some(Asked::End), _) => true,
            (None, _) => false,
        };
        if is_answered {
            self.asked.pop_front();
        }
    }

    /// Goes over to a new connection, once that follows the same, with all that the old one has brought. Stays with the old one as
    /// long as there is no new one.
    fn renew(&mut self) {
        match self.subscribed_anew() {
            Ok((target, stream, heard)) => {
                self.receive_the_rest();
                (self.target, self.stream) = (target, stream);
                self.heard.extend(heard);
            }
            Err(error) => {
                log::debug!(target: "token_manager::redis", "a subscription could not be renewed: {}", failure(error));
                self.stream.renew_later();
            }
        }
    }

    /// Takes in all that the server had sent on this connection before it heard of its end: it may still be on its way.
    fn receive_the_rest(&mut self) {
        let deadline = clock::deadline(self.connector.io_timeout);
        self.asked.push_back(Asked::End);
        let sent = self.stream.send(&cmd("PING").get_packed_command(), deadline);
        while sent.is_ok() && !self.asked.is_empty() && self.receive(deadline).is_ok_and(|came| came) {}
        self.asked.clear();
    }

    fn subscribed_anew(&self) -> RedisResult<(Target, Stream, Vec<Heard>)> {
        let (target, mut stream) = self.connector.open("")?;
        let channels: Vec<&str> = self.followed.keys().map(String::as_str).collect();
        let mut heard = Vec::new();
        for channels in channels.chunks(AT_ONCE) {
            let deadline = clock::deadline(self.connector.io_timeout);
            stream.send(&cmd("SUBSCRIBE").arg(channels).get_packed_command(), deadline)?;
            let mut unanswered = channels.len();
            while unanswered > 0 {
                let value = stream.receive(deadline)?;
                match Msg::from_value(&value) {
                    Some(message) => heard.extend(changed(&self.followed, &message)),
                    None => {
                        value.extract_error()?;
                        unanswered -= 1;
                    }
                }
            }
        }
        Ok((target, stream, heard))
    }
}

fn changed(followed: &HashMap<String, Topic>, message: &Msg) -> Option<Heard> {
    match followed.get(message.get_channel_name())? {
        Topic::Changes(grant) => Some(Heard::Changed(grant.clone(), parse(&message.get_payload::<String>().ok()?)?)),
        Topic::Presence(..) => None,
    }
}

impl Feed for RedisFeed {
    fn wait(&mut self, at_most: Duration) -> Result<Option<Heard>, StoreError> {
        let deadline = clock::deadline(at_most);
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return Ok(Some(heard));
            }
            if self.asked.is_empty() && self.stream.is_old() {
                self.renew();
                continue;
            }
            self.send_wishes().map_err(failure)?;
            // What lies in memory no socket tells of.
            if self.receive(Instant::now()).map_err(failure)? {
                continue;
            }
            self.connector.must_still_lead_to(&self.target)?;
            let confirmed = self.connector.route.confirmed_for().map(clock::deadline);
            let until = confirmed.map_or(deadline, |confirmed| confirmed.min(deadline));
            let is_readable = self.tuner.waker.wait(&self.stream, until).map_err(|error| failure(error.into()))?;
            if is_readable {
                self.receive(clock::deadline(A_MOMENT)).map_err(failure)?;
            } else if clock::left(deadline).is_zero() {
                return Ok(None);
            }
        }
    }

    fn tuner(&self) -> Arc<dyn Tuner> {
        self.tuner.clone()
    }
}

impl RedisTuner {
    fn wish(&self, wish: Wish) {
        let was_empty = {
            let mut wishes = self.wishes.lock();
            wishes.push_back(wish);
            wishes.len() == 1
        };
        if was_empty {
            self.waker.wake();
        }
    }
}

impl Tuner for RedisTuner {
    fn follow(&self, topic: &Topic) {
        self.wish(Wish::Follow(topic.clone()));
    }

    fn unfollow(&self, topic: &Topic) {
        self.wish(Wish::Unfollow(topic.clone()));
    }

    fn ping(&self) {
        self.wish(Wish::Ping);
    }
}
