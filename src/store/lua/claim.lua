-- KEYS: token updater meta carry budget; ARGV: owner attempt newer_than lease_ms emission_us burst; replies: token gen value left_ms life_ms doubted | granted gen [carry] | busy left_ms | cooling left_ms class | limited left_ms
local newer_than, emission, burst = tonumber(ARGV[3]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local int = function(n) return string.format('%.0f', n) end

local token = redis.call('HMGET', KEYS[1], 'gen', 'value', 'life_ms')
local meta = redis.call('HMGET', KEYS[3], 'gen', 'void', 'doubt', 'cool_until', 'cool_class')
local stored = tonumber(token[1] or 0)
if stored > newer_than and stored > tonumber(meta[2] or 0) then
  local doubted = stored <= tonumber(meta[3] or 0) and 1 or 0
  return {'token', token[1], token[2], redis.call('PTTL', KEYS[1]), tonumber(token[3]), doubted}
end

local updater, carry = redis.call('GET', KEYS[2]), redis.call('GET', KEYS[4]) or nil
if updater then
  local gen = string.match(updater, '^%d+')
  if gen and updater == gen .. ':' .. ARGV[1] .. ':' .. ARGV[2] then
    return {'granted', gen, carry}
  end
  return {'busy', math.max(redis.call('PTTL', KEYS[2]), 0)}
end

local cooling = tonumber(meta[4] or 0) - now
if cooling > 0 and cooling <= 3600000000 then -- no pause is longer: a failover has set the clock back since
  return {'cooling', math.ceil(cooling / 1000), meta[5]}
end

if burst == 0 then
  return {'limited', math.ceil(emission / 1000)}
end
local ahead = burst * emission
local spent = tonumber(redis.call('GET', KEYS[5]) or 0)
if spent > now + ahead + 60000000 then -- a failover has set the clock back
  spent = now + ahead
  redis.call('SET', KEYS[5], int(spent), 'PX', math.ceil(ahead / 1000))
end
local arrival = math.max(spent, now) + emission
if arrival - ahead > now then
  return {'limited', math.ceil((arrival - ahead - now) / 1000)}
end
redis.call('SET', KEYS[5], int(arrival), 'PX', math.ceil((arrival - now) / 1000))

local gen = int(math.max(now, tonumber(meta[1] or 0) + 1, tonumber(meta[2] or 0) + 1, stored + 1, newer_than + 1))
redis.call('HSET', KEYS[3], 'gen', gen)
redis.call('PEXPIRE', KEYS[3], 2592000000)
redis.call('SET', KEYS[2], gen .. ':' .. ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[4])
return {'granted', gen, carry}
