#!lua flags=allow-oom
-- Takes an evaluation back. Queued: it ends now (its lane entry is passed over by the claim, never deleted, so that
-- lag stays exact). Running: its record is marked and the owner is told.
-- KEYS  record, result, results, reply | results, output | results, ages,
--       line (8: see lib/line.lua)
-- ARGV  has_reply, has_output, result_ttl_ms, results_cap, reply_ttl_ms, reply_cap, control channel prefix,
--       result field/value...
-- Returns {'cancelled'} | {'cancelling', owner} | {'done', outcome} | {'unknown'}
local found, line = look(KEYS[1]), rest(KEYS, 7)
if not found then
  error({err = 'WRONGTYPE ' .. foreign(KEYS[1], 'hash')})
elseif found.state == 'queued' then
  must_hold(KEYS[3], 'stream')
  if not flaw_of(KEYS[1], found) then
    leave_line(line, member_of(KEYS[1]))
  end
  local fields = rest(ARGV, 8)
  say(fields, 'attempt', found.attempt or '0')
  local keys = {KEYS[1], KEYS[2], KEYS[3], optional(KEYS[4], ARGV[1]), optional(KEYS[5], ARGV[2]), KEYS[6], line[7]}
  terminal(keys, {ARGV[3], ARGV[4], ARGV[5], ARGV[6]}, 'cancelled', fields)
  return {'cancelled'}
elseif found.state == 'running' then
  redis.call('HSET', KEYS[1], 'cancel', '1')
  redis.call('PUBLISH', ARGV[7] .. (found.owner or ''), KEYS[1])
  return {'cancelling', found.owner or ''}
elseif found.state == 'done' then
  return {'done', found.outcome or ''}
end
return {'unknown'}
