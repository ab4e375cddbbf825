#!lua flags=allow-oom
-- Sets an entry aside that cannot be worked or answered: a dead letter and the acknowledgement. Repeating it is
-- harmless. Its record may be of any type: it is not written.
-- KEYS  record, dead, the entry's stream
-- ARGV  dead_cap, group, entry, then id, tenant, 'lane' | 'stream', its name, reason, error
-- Returns 1 (buried) | 0 (it was acknowledged before)
must_hold(KEYS[2], 'stream')
if redis.call('XACK', KEYS[3], ARGV[2], ARGV[3]) == 0 then
  return 0
end
dead_letter(KEYS[2], ARGV[1], KEYS[1], rest(ARGV, 4))
return 1
