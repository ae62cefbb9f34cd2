-- Asks for a token newer than one that the process knows, or for the right to fetch it.
--
-- KEYS  token meta budget pause, and of the grant: updater carry meta
-- ARGV  owner
--       attempt
--       newer_than   only a token of a higher generation is an answer
--       lease_ms     how long the right to fetch lasts without a renewal
--       emission_us  what one fetch takes of the budget
--       burst        how many fetches may be made at once; 0: a claim without the right to fetch
-- Replies
--       token gen value left_ms life_ms doubted
--       granted gen [carry carry_gen [presented_ms]], where presented is how long ago it was first presented to the issuer, by
--         others
--       busy left_ms
--       paused left_ms class
--       limited left_ms
local newer_than, emission, burst = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local token = redis.call('HMGET', KEYS[1], 'gen', 'value', 'life_ms')
local meta = redis.call('HMGET', KEYS[2], 'gen', 'invalidated', 'doubted')
local shared = redis.call('HMGET', KEYS[7], 'latest', 'gen', 'pause_until', 'pause_us', 'pause_class')
local stored = tonumber(token[1] or 0)
local usable = stored > 0 and left(KEYS[1], tonumber(token[3]))
if stored > newer_than and stored > tonumber(meta[2] or 0) then
  local doubted = stored <= tonumber(meta[3] or 0) and 1 or 0
  return {'token', token[1], token[2], usable, tonumber(token[3]), doubted}
end

-- Answers the updater of this lease, which alone is told what is carried.
local granted = function(gen)
  local lease = lease_of(gen, ARGV[1], ARGV[2])
  local carry = redis.call('HMGET', KEYS[6], 'value', 'presented_by', 'presented_at', 'gen')
  if carry[1] and carry[2] ~= lease then
    -- Whoever is the second to present it cannot say any more that it was not consumed.
    redis.call('HSET', KEYS[6], 'presented_by', carry[3] and '' or lease, 'presented_at', carry[3] or int(now))
  end
  -- By a clock that was set back it is as long ago as that clock was ahead.
  local presented = carry[3] and carry[2] ~= lease and math.floor(math.abs(now - tonumber(carry[3])) / 1000)
  return {'granted', gen, carry[1] or nil, carry[4] or nil, presented or nil}
end

local updater = redis.call('GET', KEYS[5])
if updater then
  local gen = string.match(updater, '^%d+')
  if gen and is_of(updater, gen, ARGV[1], ARGV[2]) then
    return granted(gen)
  end
  return {'busy', left(KEYS[5], lease_ms(updater))}
end

local pause, class = cut(shared[3], shared[4]), shared[5]
if pause > 0 then
  redis.call('HSET', KEYS[7], 'pause_until', int(now + pause))
end
local throttled = redis.call('GET', KEYS[4])
throttled = throttled and left(KEYS[4], tonumber(throttled)) * 1000 or 0
if throttled > pause then
  pause, class = throttled, 'throttled'
end
if pause > 0 then
  return {'paused', math.ceil(pause / 1000), class}
end

if burst == 0 then
  return {'limited', math.ceil(emission / 1000)}
end
local ahead = burst * emission
local spent = redis.call('GET', KEYS[3])
if spent then
  local ends_at, length = string.match(spent, '^(%d+):(%d+)$')
  spent = cut(ends_at, length)
  if spent > 0 then
    redis.call('SET', KEYS[3], int(now + spent) .. ':' .. length, 'PX', math.ceil(spent / 1000))
  end
end
local arrival = math.min(spent or 0, ahead) + emission
if arrival > ahead then
  return {'limited', math.ceil((arrival - ahead) / 1000)}
end
redis.call('SET', KEYS[3], int(now + arrival) .. ':' .. int(ahead), 'PX', math.ceil(arrival / 1000))

-- Whatever a commit will do is done here once, without effect: where it is forbidden, nobody asks the issuer.
redis.call('PTTL', KEYS[5])
redis.call('HDEL', KEYS[1], '-')
redis.call('DEL', KEYS[5])
redis.call('HDEL', KEYS[7], 'pause_until', 'pause_us', 'pause_class', 'pause_gen')

local known = math.max(stored, newer_than)
for _, generation in ipairs({meta[1] or 0, meta[2] or 0, meta[3] or 0, shared[1] or 0, shared[2] or 0}) do
  known = math.max(known, tonumber(generation))
end
local gen = int(math.max(now, known + 1))
redis.call('HSET', KEYS[2], 'gen', gen)
redis.call('HSET', KEYS[7], 'latest', gen)
redis.call('PEXPIRE', KEYS[2], 2592000000)
redis.call('PEXPIRE', KEYS[7], 2592000000)
redis.call('SET', KEYS[5], gen .. ':' .. ARGV[1] .. ':' .. ARGV[2] .. ':' .. ARGV[4], 'PX', ARGV[4])
return granted(gen)
