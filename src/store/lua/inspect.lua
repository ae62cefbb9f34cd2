-- Tells what is known of a token, and changes nothing.
--
-- KEYS  token meta budget pause, and of the grant: updater carry meta
-- Replies, each a string, empty if absent
--       gen left_ms updater lease_left_ms granted invalidated doubted pause_left_ms pause_class fails carries spent_us
local whole = function(n) return int(math.max(n, 0)) end
local token = redis.call('HMGET', KEYS[1], 'gen', 'life_ms')
local meta = redis.call('HMGET', KEYS[2], 'gen', 'invalidated', 'doubted')
local shared = redis.call('HMGET', KEYS[7], 'pause_until', 'pause_us', 'pause_class', 'fails')
local updater, spent = redis.call('GET', KEYS[5]) or '', redis.call('GET', KEYS[3])
local throttled = redis.call('GET', KEYS[4])

local pause, class = math.ceil(cut(shared[1], shared[2]) / 1000), shared[3]
throttled = throttled and math.min(redis.call('PTTL', KEYS[4]), tonumber(throttled)) or 0
if throttled > pause then
  pause, class = throttled, 'throttled'
end
return {
  token[1] or '', whole(math.min(redis.call('PTTL', KEYS[1]), tonumber(token[2] or 0))),
  string.match(updater, '^(%d+:.*:%d+):present:%d+$') or string.match(updater, '^(.*):%d+$') or updater,
  whole(math.min(redis.call('PTTL', KEYS[5]), updater ~= '' and lease_ms(updater) or 0)),
  meta[1] or '', meta[2] or '', meta[3] or '',
  whole(pause), pause > 0 and class or '', shared[4] or '',
  int(redis.call('EXISTS', KEYS[6])), whole(spent and cut(string.match(spent, '^(%d+):(%d+)$')) or 0),
}
