-- What all scripts share; put in front of each.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local int = function(n) return string.format('%.0f', n) end

-- Returns the microseconds left of a span that ends at a time. A clock that was set back draws it out, but never beyond
-- its length.
local cut = function(ends_at, length)
  return math.max(math.min(tonumber(ends_at or 0) - now, tonumber(length or 0)), 0)
end

-- Returns the milliseconds left to a key, no more than its whole span; sets its expiry right where a clock has drawn it out.
local left = function(key, longest)
  local ms = redis.call('PTTL', key)
  if ms > longest then
    redis.call('PEXPIRE', key, int(longest))
    return longest
  end
  return math.max(ms, 0)
end

-- Names a lease.
local lease_of = function(gen, owner, attempt) return gen .. ':' .. owner .. ':' .. attempt end

-- Returns whether the updater key, `<gen>:<owner>:<attempt>[:present]:<lease_ms>`, is of this lease.
local is_of = function(updater, gen, owner, attempt)
  local lease = lease_of(gen, owner, attempt) .. ':'
  return updater and string.sub(updater, 1, #lease) == lease
end
local lease_ms = function(updater) return tonumber(string.match(updater, ':(%d+)$')) end
