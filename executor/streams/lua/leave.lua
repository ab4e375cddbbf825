#!lua flags=allow-oom
-- Removes a consumer that holds nothing, and its registration. DELCONSUMER drops what a consumer still holds, so
-- one that holds an entry stays until the entry is rescued.
-- KEYS  lane, executors, heartbeat
-- ARGV  group, consumer
-- Returns 1 when the consumer is gone, 0 when it still holds entries
redis.call('HDEL', KEYS[2], ARGV[2])
redis.call('DEL', KEYS[3])
if redis.call('EXISTS', KEYS[1]) == 1 then
  if #redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1, ARGV[2]) > 0 then
    return 0
  end
  redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
end
return 1
