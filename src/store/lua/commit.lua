-- KEYS: token updater meta carry; ARGV: channel owner attempt gen value left_ms life_ms age_ms [carry [carry_ms]], where age is how long ago the fetch began, -1 if unknown; replies: written doubted | superseded gen value left_ms life_ms doubted | void
local gen = tonumber(ARGV[4])
local int = function(n) return string.format('%.0f', n) end
local token = redis.call('HMGET', KEYS[1], 'gen', 'value', 'life_ms')
local meta = redis.call('HMGET', KEYS[3], 'gen', 'void', 'doubt')
local stored, void, doubt = tonumber(token[1] or 0), tonumber(meta[2] or 0), tonumber(meta[3] or 0)

if stored == gen then -- the first reply to this commit was lost
  return {'written', gen <= doubt and 1 or 0}
end

if redis.call('GET', KEYS[2]) == ARGV[4] .. ':' .. ARGV[2] .. ':' .. ARGV[3] then
  redis.call('DEL', KEYS[2])
else -- the lease was lost: nobody knows in which order the issuer granted what has been granted so far
  local granted = math.max(tonumber(meta[1] or 0), gen)
  doubt = math.max(doubt, granted)
  redis.call('HSET', KEYS[3], 'gen', int(granted), 'doubt', int(doubt))
  redis.pcall('PUBLISH', ARGV[1], 'doubted ' .. int(doubt))
end
redis.call('HDEL', KEYS[3], 'cool_until', 'cool_class', 'fails')
redis.call('PEXPIRE', KEYS[3], 2592000000)

if stored > gen and stored > void then
  local doubted = stored <= doubt and 1 or 0
  return {'superseded', token[1], token[2], redis.call('PTTL', KEYS[1]), tonumber(token[3]), doubted}
end
if gen <= void or stored > gen then
  return {'void'}
end
-- A server that was stopped carries this out late: more time has passed here since the grant than at the updater. What
-- the way here and the clocks' ticks explain does not count.
local left, age = tonumber(ARGV[6]), tonumber(ARGV[8])
if age >= 0 then
  local time = redis.call('TIME')
  local late = math.floor((time[1] * 1000000 + time[2] - gen) / 1000) - age
  left = late > 100 and left - late or left
end
if ARGV[10] then
  redis.call('SET', KEYS[4], ARGV[9], 'PX', ARGV[10])
elseif ARGV[9] then
  redis.call('SET', KEYS[4], ARGV[9])
end
if left < 1 then
  return {'void'}
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'value', ARGV[5], 'gen', ARGV[4], 'life_ms', ARGV[7])
redis.call('PEXPIRE', KEYS[1], int(left))
redis.pcall('PUBLISH', ARGV[1], 'committed ' .. ARGV[4])
return {'written', gen <= doubt and 1 or 0}
