-- For wrk: every answer has to be 200, of one version, and whole. ODD and EVEN are the "data" of the versions' answers.

local file = assert(io.open(os.getenv("REQUEST_BODY"), "rb"))
wrk.method = "POST"
wrk.body = file:read("*a")
file:close()
wrk.headers["Content-Type"] = "application/json"

local whole = { [0] = os.getenv("EVEN"), [1] = os.getenv("ODD") }
local threads = {}
odd, even, wrong, refused, example = 0, 0, 0, 0, ""

function setup(thread)
  threads[#threads + 1] = thread
end

function response(status, headers, body)
  if status ~= 200 then
    refused = refused + 1
    example = status .. " " .. body
    return
  end
  local version = tonumber(body:match('"model_version":"(%d+)"'))
  if not version or body:match('"data":%[([^%]]*)%]') ~= whole[version % 2] then
    wrong = wrong + 1
    example = body
  elseif version % 2 == 1 then
    odd = odd + 1
  else
    even = even + 1
  end
end

function done(summary, latency, requests)
  local e = summary.errors
  local sum = { odd = 0, even = 0, wrong = 0, refused = 0 }
  for _, thread in ipairs(threads) do
    for name in pairs(sum) do
      sum[name] = sum[name] + thread:get(name)
    end
    if thread:get("example") ~= "" then
      io.write("EXAMPLE " .. thread:get("example"):gsub("\n", " ") .. "\n")
    end
  end
  io.write(string.format(
    'RESULT {"odd": %d, "even": %d, "wrong": %d, "refused": %d, "broken": %d, "seconds": %.3f, "p99_us": %.1f, "max_us": %.1f}\n',
    sum.odd, sum.even, sum.wrong, sum.refused, e.connect + e.read + e.write + e.timeout,
    summary.duration / 1e6, latency:percentile(99), latency.max))
end
