-- Turns a delivered entry back into lag: a copy is added and the old one acknowledged, in one step, so that
-- a scaler that looks at lag wakes a worker for it. The second attempt comes at once; later ones wait, for what fails
-- again and again fails for a reason that needs time: up to 1, 2, 4 ... 60 s, at random so that they do not come together
-- (full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
local BASE_MS, MOST_MS = 1000, 60000

local function requeue(record, lane, line, group, entry, jitter)
  local found = redis.call('HMGET', record, 'id', 'tenant', 'attempt')
  local next_attempt, member = found[3] + 1, member_of(record)
  if next_attempt <= 2 then
    let_in(line, lane, member)
  else
    local wait_ms = math.floor(tonumber(jitter) * math.min(MOST_MS, BASE_MS * 2 ^ (next_attempt - 3)))
    delay(line, '=', member, now_ms() + wait_ms, redis.call('PTTL', record))
    redis.call('ZREM', line[7], 'lane/' .. found[2] .. '/' .. found[1])
  end
  -- Last: a script that is refused a command in the middle keeps what it did, and must not have let the entry go.
  redis.call('HSET', record, 'state', 'queued', 'owner', '')
  redis.call('XACK', lane, group, entry)
end
