#!lua
-- Makes the reader of a lane entry the owner of its evaluation; the lease starts.
-- KEYS  record, lane
-- ARGV  group, consumer, entry
-- Returns {'run', generation, attempt, queued_ms, payload, ms to its deadline | -1}
--       | {'gone'}  no record, it is done or its deadline has passed: the entry is acknowledged, there is nothing to run
--       | {'lost'}  the entry is another consumer's by now: leave it alone
local group, consumer, entry = ARGV[1], ARGV[2], ARGV[3]
if #redis.call('XPENDING', KEYS[2], group, entry, entry, 1, consumer) == 0 then
  return {'lost'}
end
local found = redis.call('HMGET', KEYS[1], 'state', 'payload', 'queued_at', 'deadline')
if found[1] ~= 'queued' or not found[2] then
  if found[1] == 'running' then
    return {'lost'}
  end
  redis.call('XACK', KEYS[2], group, entry)
  return {'gone'}
end
local now, deadline = now_ms(), tonumber(found[4] or nil)
if deadline and deadline <= now then
  redis.call('XACK', KEYS[2], group, entry)  -- the janitor ends it
  return {'gone'}
end
local generation = redis.call('HINCRBY', KEYS[1], 'generation', 1)
local attempt = redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', 'running', 'owner', consumer, 'started_at', now)
return {'run', generation, attempt, now - tonumber(found[3]), found[2], deadline and deadline - now or -1}
