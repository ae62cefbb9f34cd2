-- Tells what is known of a token, and changes nothing.
--
-- KEYS  token updater meta carry budget pause
-- Replies, each a string, empty if absent
--       gen left_ms updater lease_left_ms granted invalidated doubted pause_left_ms pause_class fails carries spent_us
local whole = function(n) return int(math.max(n, 0)) end
local token = redis.call('HMGET', KEYS[1], 'gen', 'life_ms')
local meta = redis.call('HMGET', KEYS[3], 'gen', 'invalidated', 'doubted', 'pause_until', 'pause_us', 'pause_class', 'fails')
local updater, spent = redis.call('GET', KEYS[2]) or '', redis.call('GET', KEYS[5])
local throttled = redis.call('GET', KEYS[6])

local pause, class = math.ceil(cut(meta[4], meta[5]) / 1000), meta[6]
throttled = throttled and math.min(redis.call('PTTL', KEYS[6]), tonumber(throttled)) or 0
if throttled > pause then
  pause, class = throttled, 'throttled'
end
return {
  token[1] or '', whole(math.min(redis.call('PTTL', KEYS[1]), tonumber(token[2] or 0))),
  string.match(updater, '^(.*):%d+$') or updater,
  whole(math.min(redis.call('PTTL', KEYS[2]), updater ~= '' and lease_ms(updater) or 0)),
  meta[1] or '', meta[2] or '', meta[3] or '',
  whole(pause), pause > 0 and class or '', meta[7] or '',
  int(redis.call('EXISTS', KEYS[4])), whole(spent and cut(string.match(spent, '^(%d+):(%d+)$')) or 0),
}
