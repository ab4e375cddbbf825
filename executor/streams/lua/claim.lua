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
local raw = redis.pcall('HMGET', KEYS[1], 'state', 'payload', 'queued_at', 'deadline', 'generation', 'attempt', 'id', 'tenant',
  'max_attempts')
if raw.err then
  return is_wrong_type(raw) and {'unanswerable', foreign(KEYS[1], 'hash')} or error(raw)
end
local state, payload = raw[1], raw[2]
if state == 'running' then
  return {'lost'}
elseif state == 'done' or state == 'duplicate' or not state and redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XACK', KEYS[2], group, entry)
  return {'gone'}
end
local found = {state = state, queued_at = raw[3], deadline = raw[4], generation = raw[5], attempt = raw[6], id = raw[7],
  tenant = raw[8], max_attempts = raw[9]}
local flaw = flaw_of(KEYS[1], found) or not payload and 'payload: missing'
if flaw then
  return {'corrupt', 'its record is corrupt: ' .. flaw}
end
local now, deadline = now_ms(), tonumber(raw[4] or nil)
if deadline and deadline <= now then
  local noted = redis.pcall('ZADD', KEYS[3], deadline, KEYS[1])
  if type(noted) == 'table' then  -- an error: the janitor ends it, for which it must know of it
    return {'lost'}
  end
  keep(KEYS[3], redis.call('PTTL', KEYS[1]))
  redis.call('XACK', KEYS[2], group, entry)
  return {'gone'}
end
local generation, attempt = raw[5] + 1, raw[6] + 1
redis.call('HSET', KEYS[1], 'generation', generation, 'attempt', attempt, 'state', 'running', 'owner', consumer,
  'started_at', now)
return {'run', generation, attempt, now - raw[3], payload, deadline and deadline - now or -1}
