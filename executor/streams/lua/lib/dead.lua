-- Dead letters: what a person must look at. Every one says the same of its evaluation.

-- about = {id, tenant, 'lane' | 'stream', its name, reason, error}; attempts and their owners are the record's to say.
-- Returns the letter's id; false when the key is not a stream any more: a result must not be lost to that.
local function dead_letter(dead, cap, record, about)
  if not holds(dead, 'stream') then
    return false
  end
  local found = holds(record, 'hash') and redis.call('HMGET', record, 'attempt', 'history') or {}
  return redis.call('XADD', dead, 'MAXLEN', '~', cap, '*', 'id', about[1], 'tenant', about[2], about[3], about[4],
    'reason', about[5], 'error', about[6], 'attempts', found[1] or 0, 'history', found[2] or '', 'at', now_ms())
end

-- How much of an attempt's output is kept, and how long a history may be before output is left out of it.
local OUTPUT_BYTES, HISTORY_BYTES = 2048, 32768

-- The end of what an attempt has streamed.
local function tail_of(output, attempt)
  local parts, size = {}, 0
  local items = output and holds(output, 'stream') and redis.call('XREVRANGE', output, '+', '-', 'COUNT', 32) or {}
  for _, item in ipairs(items) do
    local words = item[2]
    if size < OUTPUT_BYTES and words[1] == 'attempt' and words[2] == attempt then
      table.insert(parts, 1, words[4])
      size = size + #words[4]
    end
  end
  return table.concat(parts)
end

-- Notes an attempt that left no result: one JSON object a line.
-- past = {owner, how it ended, its last output}
local function remember(record, past)
  if not holds(record, 'hash') then
    return
  end
  local found = redis.call('HMGET', record, 'history', 'attempt')
  local history = found[1] and found[1] .. '\n' or ''
  local one = {attempt = tonumber(found[2] or nil) or 0, owner = string.sub(past[1], 1, 256), at = now_ms(),
    how = string.sub(past[2], 1, 256)}
  if past[3] ~= '' and #history < HISTORY_BYTES then
    one.output = string.gsub(string.sub(past[3], -OUTPUT_BYTES), '^[\128-\191]+', '')  -- the rest of a character
  end
  redis.call('HSET', record, 'history', history .. cjson.encode(one))
end

-- Puts a field of a result in the place of what it says there.
local function say(pairs_, name, value)
  for i = 1, #pairs_, 2 do
    if pairs_[i] == name then
      pairs_[i + 1] = value
      return
    end
  end
  pairs_[#pairs_ + 1] = name
  pairs_[#pairs_ + 1] = value
end

-- Ends an evaluation with its result, and with a letter when there is a reason for one, or a key of its own that holds
-- something else. The record says which letter, because an id may be used anew once a record has expired.
-- ending = {keys, flow, dead, cap, pairs_}, as of `terminal` and `dead_letter`; lane = its key, or its name
local function conclude(ending, outcome, reason, lane)
  local keys, dead, cap, pairs_ = ending[1], ending[3], ending[4], ending[5]
  local problem = terminal(keys, ending[2], outcome, pairs_)
  if not reason and not problem then
    return
  end
  local why = reason and value_of(pairs_, 'error') .. (problem and '; ' .. problem or '') or problem
  local letter = dead_letter(dead, cap, keys[1], {value_of(pairs_, 'id'), value_of(pairs_, 'tenant'), 'lane',
    string.match(lane, ':lane:(.*)$') or lane, reason or 'unanswerable', why})
  if letter and outcome == 'lost' and holds(keys[1], 'hash') then
    redis.call('HSET', keys[1], 'letter', letter)
  end
end
