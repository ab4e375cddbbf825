#!lua flags=allow-oom
-- Ends an evaluation whose deadline or whole life has passed while it waited. One that runs is left to its timeout and
-- looked at again.
-- KEYS  record, result, results, reply | results, output | results, ages, dead, line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap, again_ms, dead_cap,
--       outcome, result field/value...
-- Its lane entry stays, so that lag is exact; the claim, or the skipping of what has ended, passes it over.
-- Returns 'ended' | 'running' | 'gone' (it has ended, or is not known any more) | 'early'
local due = redis.call('ZSCORE', KEYS[6], KEYS[1])
if not due or tonumber(due) > now_ms() then
  return due and 'early' or 'gone'
end
local found = redis.call('HMGET', KEYS[1], 'state', 'attempt')
if found[1] == 'running' then
  redis.call('ZADD', KEYS[6], now_ms() + ARGV[7], KEYS[1])
  return 'running'
elseif found[1] ~= 'queued' then
  redis.call('ZREM', KEYS[6], KEYS[1])
  return 'gone'
end
local line = rest(KEYS, 8)
leave_line(line, member_of(KEYS[1]))
local fields = rest(ARGV, 10)
fields[#fields + 1] = 'attempt'
fields[#fields + 1] = found[2]
local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
local flow = {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}
if ARGV[9] == 'lost' then
  lost(keys, flow, KEYS[7], ARGV[8], 'age', fields)
else
  terminal(keys, flow, ARGV[9], fields)
end
return 'ended'
