-- Turns a delivered entry back into lag: a copy is added and the old one acknowledged, in one step, so that
-- a scaler that looks at lag wakes a worker for it. The second attempt comes at once; later ones wait, for what fails
-- again and again fails for a reason that needs time: up to 1, 2, 4 ... 60 s, at random so that they do not come together
-- (full jitter: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
local BASE_MS, MOST_MS = 1000, 60000

local function requeue(record, lane, line, group, entry, jitter)
  must_hold(lane, 'stream')
  check_line(line)
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

-- Gives an evaluation that had an attempt, or none yet, its next one; or ends it when it has had them all or cannot have
-- another: its record is corrupt, or is no record.
-- entry  = {lane, group, entry id}
-- past   = {owner, how it ended, its last output} of the attempt that ends here; false: none had begun
-- ending = as of `conclude`, with what it says if it was the last attempt
-- Returns 'requeued' | 'lost'
local function next_or_lost(ending, line, entry, found, past, jitter)
  local record, pairs_ = ending[1][1], ending[5]
  local flaw = not found and foreign(record, 'hash') or flaw_of(record, found)
  if flaw then
    say(pairs_, 'error', (found and 'its record is corrupt: ' or '') .. flaw)
  end
  must_hold(ending[1][3], 'stream')
  if past and found then
    remember(record, past)
  end
  local attempt = found and tonumber(found.attempt or nil) or 0
  if not flaw and attempt < tonumber(found.max_attempts) then
    requeue(record, entry[1], line, entry[2], entry[3], jitter)
    return 'requeued'
  end
  say(pairs_, 'attempt', tostring(attempt))
  if past then
    say(pairs_, 'worker', past[1])
  end
  conclude(ending, 'lost', not found and 'unanswerable' or flaw and 'corrupt' or 'attempts', entry[1])
  redis.call('XACK', entry[1], entry[2], entry[3])
  return 'lost'
end
