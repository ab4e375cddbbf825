-- Turns a delivered entry back into lag: a copy is added and the old one acknowledged, in one step, so that
-- a scaler that looks at lag wakes a worker for it.
local function requeue(record, lane, group, entry, next_attempt)
  local found = redis.call('HMGET', record, 'id', 'tenant', 'traceparent')
  redis.call('HSET', record, 'state', 'queued', 'owner', '')
  redis.call('XADD', lane, '*', 'id', found[1], 'tenant', found[2], 'attempt', next_attempt,
    'traceparent', found[3] or '')
  redis.call('XACK', lane, group, entry)
end
