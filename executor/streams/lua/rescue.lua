#!lua flags=allow-oom
-- Ends an expired lease: the entry goes back to the lane, or its evaluation is lost after its last attempt.
-- KEYS  record, result, results, reply | results, output | results, ages, lane, dead,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap,
--       group, entry, lease_ms, dead_cap, jitter (0..1), result field/value...
-- Returns 'alive' | 'gone' | 'requeued' | 'lost'
local group, entry, line = ARGV[7], ARGV[8], rest(KEYS, 9)
local expired = redis.call('XPENDING', KEYS[7], group, 'IDLE', ARGV[9], entry, entry, 1)
if #expired == 0 then
  return 'alive'
end
local found = redis.call('HMGET', KEYS[1], 'state', 'attempt', 'max_attempts')
local state, attempt = found[1], tonumber(found[2] or 0)
if state ~= 'queued' and state ~= 'running' then
  redis.call('XACK', KEYS[7], group, entry)
  return 'gone'
end
if state == 'running' then
  remember(KEYS[1], expired[1][2])
end
if attempt < tonumber(found[3] or 1) then
  requeue(KEYS[1], KEYS[7], line, group, entry, ARGV[11])
  return 'requeued'
end
local fields = rest(ARGV, 12)
for _, value in ipairs({'attempt', tostring(attempt), 'worker', expired[1][2]}) do
  fields[#fields + 1] = value
end
local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
lost(keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, KEYS[8], ARGV[10], 'attempts', fields)
redis.call('XACK', KEYS[7], group, entry)
return 'lost'
