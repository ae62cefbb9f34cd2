-- Tells whether the updater is there, as far as it can be seen. Ends the lease of one that was missing at the last look and is
-- missing still.
--
-- KEYS  updater
-- ARGV  channel of the events, to which those who wait are subscribed
--       what the channel begins with that an updater holds; its owner follows
--       [lease]  the one whose updater was missing at the last look
-- Replies
--       ended                      nobody fetches, or not any more
--       assumed listeners          it is there, or has not said that it can be seen
--       missing gen owner attempt  it has said so, and is not there
--       unknown                    this user may not ask
local updater = redis.call('GET', KEYS[1])
if not updater then
  return {'ended'}
end
local lease, gen, owner, attempt = string.match(updater, '^((%d+):(.*):(%d+)):present:%d+$')
local subscribers = redis.pcall('PUBSUB', 'NUMSUB', ARGV[1], ARGV[2] .. (owner or ''))
if subscribers.err then
  return {'unknown'}
end
if not lease or subscribers[4] > 0 then
  return {'assumed', subscribers[2]}
end
if lease == ARGV[3] then
  redis.call('DEL', KEYS[1])
  return {'ended'}
end
return {'missing', gen, owner, attempt}
