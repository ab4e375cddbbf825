#!lua
-- Makes the reader of a lane entry the owner of its evaluation; the lease starts.
-- KEYS  record, lane, ages
-- ARGV  group, consumer, entry
-- Returns {'run', generation, attempt, queued_ms, payload, ms to its deadline | -1}
--       | {'gone'}  no record, it is done or its deadline has passed: the entry is acknowledged, there is nothing to run
--       | {'lost'}  the entry is another consumer's by now: leave it alone
--       | {'corrupt' | 'unanswerable', why}  its record cannot be run, or is none: bury the entry
local group, consumer, entry = ARGV[1], ARGV[2], ARGV[3]
if #redis.call('XPENDING', KEYS[2], group, entry, entry, 1, consumer) == 0 then
  return {'lost'}
end
local found = look(KEYS[1])
if not found then
  return {'unanswerable', foreign(KEYS[1], 'hash')}
elseif found.state == 'running' then
  return {'lost'}
elseif found.state == 'done' or found.state == 'duplicate' or redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XACK', KEYS[2], group, entry)
  return {'gone'}
end
local payload = redis.call('HGET', KEYS[1], 'payload')
local flaw = flaw_of(KEYS[1], found) or not payload and 'payload: missing'
if flaw then
  return {'corrupt', 'its record is corrupt: ' .. flaw}
end
local now, deadline = now_ms(), tonumber(found.deadline or nil)
if deadline and deadline <= now then
  local noted = redis.pcall('ZADD', KEYS[3], deadline, KEYS[1])
  if type(noted) == 'table' then  -- an error: the janitor ends it, for which it must know of it
    return {'lost'}
  end
  keep(KEYS[3], redis.call('PTTL', KEYS[1]))
  redis.call('XACK', KEYS[2], group, entry)
  return {'gone'}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'running', 'owner', consumer, 'started_at', now)
return {'run', generation, attempt, now - tonumber(found.queued_at), payload, deadline and deadline - now or -1}
