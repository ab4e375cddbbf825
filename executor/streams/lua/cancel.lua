#!lua flags=allow-oom
-- Takes an evaluation back. Queued: it ends now (its lane entry is passed over by the claim, never deleted, so that
-- lag stays exact). Running: its record is marked and the owner is told.
-- KEYS  record, result, results, reply | results, output | results, ages,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap, control channel prefix,
--       result field/value...
-- Returns {'cancelled'} | {'cancelling', owner} | {'done', outcome} | {'unknown'}
local found = redis.call('HMGET', KEYS[1], 'state', 'owner', 'outcome', 'attempt')
if found[1] == 'queued' then
  local line = rest(KEYS, 7)
  leave_line(line, member_of(KEYS[1]))
  local fields = rest(ARGV, 8)
  fields[#fields + 1] = 'attempt'
  fields[#fields + 1] = found[4]
  local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
  terminal(keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, 'cancelled', fields)
  return {'cancelled'}
elseif found[1] == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
  redis.call('PUBLISH', ARGV[7] .. found[2], KEYS[1])
  return {'cancelling', found[2]}
elseif found[1] == 'done' then
  return {'done', found[3] or ''}
end
return {'unknown'}
