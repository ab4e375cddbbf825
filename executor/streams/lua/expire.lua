#!lua flags=allow-oom
-- Ends an evaluation whose deadline or whole life has passed while it waited. One that runs is left to its timeout and
-- looked at again, while its owner is alive.
-- KEYS  record, result, results, reply | results, output | results, ages, dead, the owner's heartbeat,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap, again_ms, dead_cap, lane, owner,
--       outcome, result field/value...
-- Its lane entry stays, so that lag is exact; the claim, or the skipping of what has ended, passes it over.
-- Returns 'ended' | 'running' | 'gone' (it has ended, or is not known any more) | 'early'
local due = redis.call('ZSCORE', KEYS[6], KEYS[1])
if not due or tonumber(due) > now_ms() then
  return due and 'early' or 'gone'
end
local found = look(KEYS[1])
if found and (found.state == 'done' or found.state == 'duplicate' or redis.call('EXISTS', KEYS[1]) == 0) then
  redis.call('ZREM', KEYS[6], KEYS[1])
  return 'gone'
elseif found and found.state == 'running' and ((found.owner or '') ~= ARGV[10] or redis.call('EXISTS', KEYS[8]) == 1) then
  redis.call('ZADD', KEYS[6], now_ms() + ARGV[7], KEYS[1])
  return 'running'
end
must_hold(KEYS[3], 'stream')
local line = rest(KEYS, 9)
local outcome, reason, fields = ARGV[11], ARGV[11] == 'lost' and 'age', rest(ARGV, 12)
local flaw = not found and foreign(KEYS[1], 'hash') or flaw_of(KEYS[1], found)
if flaw then
  outcome, reason = 'lost', found and 'corrupt' or 'unanswerable'
  say(fields, 'outcome', outcome)
  say(fields, 'error', (found and 'its record is corrupt: ' or '') .. flaw)
else
  leave_line(line, member_of(KEYS[1]))
  say(fields, 'attempt', found.attempt)
end
local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
conclude({keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, KEYS[7], ARGV[8], fields}, outcome, reason, ARGV[9])
return 'ended'
