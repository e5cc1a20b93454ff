// Declared preprocessing in JavaScript: the same bits as pipcook_deploy/preprocess/*.py, from decoded
// pixels on (a browser decodes; `decode` here only picks and composites channels). No dependencies.
// Formulas and rounding: docs/preprocessing.md. Everything is float64, as JavaScript's numbers are;
// Math.fround and typed arrays do the stated roundings.
//
// prepare(operations, value) -> {shape, dtype, data}
//   value: {width, height, channels?, data} with uint8 pixels (ImageData fits: 4 channels), a string,
//   a tensor {shape, data}, or numbers in nested arrays.

const TYPES = {
  uint8: Uint8Array, int8: Int8Array, int32: Int32Array, int64: BigInt64Array, float32: Float32Array,
  float64: Float64Array,
};
const LIMITS = { uint8: [0, 255], int8: [-128, 127], int32: [-2147483648, 2147483647] };

const tensor = (shape, dtype, data) => ({ shape, dtype, data });

function make(shape, dtype, at) {
  const data = new TYPES[dtype](shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++) data[i] = at(i);
  return tensor(shape, dtype, data);
}

function grey({ shape: [h, w, c], data }) {
  return make([h, w, 1], "uint8", (i) =>
    (19595 * data[i * c] + 38470 * data[i * c + 1] + 7471 * data[i * c + 2] + 32768) >> 16);
}

function repeat({ shape: [h, w], dtype, data }) {
  return make([h, w, 3], dtype, (i) => data[Math.floor(i / 3)]);
}

function decode(op, image) {
  const [h, w, c] = image.shape;
  if (c === 4) {
    const back = { white: 255, black: 0 }[op.alpha ?? "drop"];
    const source = image.data;
    image = make([h, w, 3], "uint8", (i) => {
      const pixel = Math.floor(i / 3), value = source[pixel * 4 + (i % 3)], alpha = source[pixel * 4 + 3];
      return back === undefined ? value : Math.floor((value * alpha + back * (255 - alpha) + 127) / 255);
    });
  }
  if (op.channels === "grey") return image.shape[2] === 1 ? image : grey(image);
  return image.shape[2] === 1 ? repeat(image) : image;
}

function color(op, image) {
  const [h, w, c] = image.shape;
  if (op.to === "grey") return c === 1 ? image : grey(image);
  if (c === 1) return repeat(image);
  if (op.to === "rgb") return image;
  return make([h, w, 3], "uint8", (i) => image.data[i - (i % 3) + 2 - (i % 3)]);
}

function crop(image, top, left, height, width) {
  const [, w, c] = image.shape;
  return make([height, width, c], image.dtype, (i) => {
    const y = Math.floor(i / (width * c)), rest = i - y * width * c;
    return image.data[((top + y) * w + left) * c + rest];
  });
}

function centerCrop(op, image) {
  const [h, w] = image.shape;
  if (h < op.height || w < op.width) throw new Error("center_crop of a smaller image");
  return crop(image, (h - op.height) >> 1, (w - op.width) >> 1, op.height, op.width);
}

// ---- resize: taps of one axis as [[index, weight], ...] per output pixel, in ascending order

function place(window, corners, i) {
  const { source, target } = window;
  if (corners === "align_corners") return i * (target > 1 ? (source - 1) / (target - 1) : 0);
  const ratio = source / target;
  return corners === "half_pixel" ? (i + 0.5) * ratio - 0.5 : i * ratio;
}

function nearest(window, corners, i) {
  let at = place(window, corners, i);
  if (corners === "half_pixel") at = (i + 0.5) * (window.source / window.target);
  else if (corners === "align_corners") at += 0.5;
  return [[Math.min(Math.floor(at), window.source - 1), 1]];
}

const triangle = (x) => Math.max(0, 1 - Math.abs(x));

function cubic(x) {
  x = Math.abs(x);
  if (x <= 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

function edged(window, corners, i, offsets, kernel) {
  const at = place(window, corners, i), low = Math.floor(at);
  return offsets.map((k) => [clamp(low + k, 0, window.source - 1), kernel(low, k, at)]);
}

function spread(window, op, i) {
  const [kernel, radius] = op.method === "bicubic" ? [cubic, 2] : [triangle, 1];
  const at = place(window, "half_pixel", i);
  const width = op.antialias ? Math.max(window.source / window.target, 1) : 1;
  const first = Math.max(Math.ceil(at - radius * width), 0);
  const last = Math.min(Math.floor(at + radius * width), window.source - 1);
  const taps = [];
  let sum = 0;
  for (let j = first; j <= last; j++) {
    const weight = kernel((j - at) / width);
    taps.push([j, weight]);
    sum += weight;
  }
  return taps.map(([j, weight]) => [j, weight / sum]);
}

function tapsOf(op, window, i) {
  const corners = op.corners ?? "half_pixel", method = op.method ?? "bilinear";
  if (method === "nearest") return nearest(window, corners, i);
  if (op.antialias || (method === "bicubic" && corners === "half_pixel")) return spread(window, op, i);
  if (method === "bicubic") {
    return edged(window, corners, i, [-1, 0, 1, 2], (low, k, at) => cubic(low + k - at));
  }
  return edged(window, corners, i, [0, 1], (low, k, at) => (k === 0 ? 1 - (at - low) : at - low));
}

// Sums taps along axis 0 (rows) or 1 (columns) of [h, w, c]; `keep` rounds after every addition.
function weigh({ shape: [h, w, c], data }, axis, taps, keep = (x) => x, finish = (x) => x) {
  const n = taps.length, shape = axis === 0 ? [n, w, c] : [h, n, c];
  const result = new Float64Array(shape[0] * shape[1] * c);
  for (let y = 0, o = 0; y < shape[0]; y++) {
    for (let x = 0; x < shape[1]; x++) {
      const list = taps[axis === 0 ? y : x];
      for (let k = 0; k < c; k++, o++) {
        let sum = 0;
        for (const [j, weight] of list) {
          sum = keep(sum + data[(axis === 0 ? j * w + x : y * w + j) * c + k] * weight);
        }
        result[o] = finish(sum, list);
      }
    }
  }
  return tensor(shape, "float64", result);
}

function windows(op, [h, w]) {
  let full = [op.height, op.width];
  if (op.fit === "cover") {
    const factor = Math.max(op.height / h, op.width / w);
    full = [Math.max(op.height, Math.floor(h * factor + 0.5)), Math.max(op.width, Math.floor(w * factor + 0.5))];
  }
  return [[h, full[0], op.height], [w, full[1], op.width]].map(([source, target, count]) =>
    ({ source, target, start: Math.floor((target - count) / 2), count }));
}

function resize(op, image) {
  let result;
  if (op.method === "area_bilinear") result = areaBilinear(op, image);
  else {
    const [rows, columns] = windows(op, image.shape).map((window) =>
      Array.from({ length: window.count }, (_, i) => tapsOf(op, window, window.start + i)));
    result = weigh(weigh(image, 1, columns), 0, rows);
  }
  const rounded = op.round ?? true;
  return make(result.shape, rounded ? "uint8" : "float32", (i) =>
    rounded ? clamp(Math.floor(result.data[i] + 0.5), 0, 255) : result.data[i]);
}

// ---- Jimp's default resize; see area_bilinear.py

function shrinking(source, target, stride) {
  const ratio = source / target, rows = [];
  let pixel = 0, edge = 0;
  for (let i = 0; i < target; i++) {
    let left = ratio;
    const row = [];
    while (left > 0 && pixel < source) {
      const toNext = 1 + pixel * stride - edge;
      row.push([pixel, Math.min(left, toNext)]);
      if (left < toNext) {
        edge += left;
        break;
      }
      pixel += 1;
      edge = pixel * stride;
      left -= toNext;
    }
    rows.push(row);
  }
  return rows;
}

function growing(source, target) {
  const ratio = source / target, places = [];
  let at = 0;
  for (; at < 1 / 3; at += ratio) places.push(0);
  for (at -= 1 / 3; at < source - 1; at += ratio) places.push(at);
  while (places.length < target) places.push(source - 1);
  return places.slice(0, target).map((x) => {
    const low = Math.floor(x);
    return [[low, 1 - (x - low)], [Math.min(low + 1, source - 1), x - low]];
  });
}

function areaAxis(image, axis, target, stride, last) {
  const source = image.shape[axis], store = last ? (x) => x : Math.fround;
  if (source <= target) return weigh(image, axis, growing(source, target), undefined, store);
  return weigh(image, axis, shrinking(source, target, stride), Math.fround, (sum, list) => {
    const total = list.reduce((a, [, weight]) => a + weight, 0);
    return store(sum * (1 / total));
  });
}

function areaBilinear(op, image) {
  let result = image;
  if (image.shape[1] !== op.width) result = areaAxis(result, 1, op.width, 4, false);
  const tall = image.shape[0] !== op.height;
  if (tall) result = areaAxis(result, 0, op.height, 4 * op.width, true);
  return make(result.shape, "uint8", (i) => Math.floor(result.data[i] + (tall ? 0.5 : 0)));
}

// ---- numbers

function scale(op, x) {
  const factor = op.factor ?? 1, offset = op.offset ?? 0;
  return make(x.shape, "float32", (i) => Number(x.data[i]) * factor + offset);
}

function normalize(op, x) {
  const c = x.shape.length ? x.shape[x.shape.length - 1] : 1;
  const pick = (list, i) => list[list.length === 1 ? 0 : i % c];
  return make(x.shape, "float32", (i) => (Number(x.data[i]) - pick(op.mean, i)) / pick(op.std, i));
}

function normalizePerImage(op, image) {
  const groups = op.per_channel ? image.shape[2] : 1, n = image.data.length / groups;
  const sum = (value) => {
    const sums = new Float64Array(groups);
    image.data.forEach((x, i) => { sums[i % groups] += value(x, i % groups); });
    return Array.from(sums);
  };
  const means = sum((x) => x).map((s) => s / n);
  const stds = sum((x, g) => (x - means[g]) * (x - means[g])).map((s) => Math.sqrt(s / n));
  const round = (x) => (op.rounded ? Math.floor(x + 0.5) : x);
  const epsilon = op.epsilon ?? 1e-7;
  return make(image.shape, "float32", (i) =>
    (image.data[i] - round(means[i % groups])) / Math.max(round(stds[i % groups]), epsilon));
}

function layout(op, image) {
  const [h, w, c] = image.shape;
  if (op.to === "flat") return tensor([h * w * c], image.dtype, image.data);
  if (op.to === "hwc") return image;
  return make([c, h, w], image.dtype, (i) => image.data[(i % (h * w)) * c + Math.floor(i / (h * w))]);
}

function cast(op, x) {
  if (op.dtype === "float32") return make(x.shape, "float32", (i) => Number(x.data[i]));
  if (op.dtype === "int64") {
    return make(x.shape, "int64", (i) => {
      const value = x.data[i];
      if (typeof value === "bigint") return value;
      const whole = Math.floor((Number.isNaN(value) ? 0 : value) + 0.5);
      if (whole >= 2 ** 63) return 2n ** 63n - 1n;
      return whole <= -(2 ** 63) ? -(2n ** 63n) : BigInt(whole);
    });
  }
  const [low, high] = LIMITS[op.dtype];
  return make(x.shape, op.dtype, (i) => {
    const value = Number(x.data[i]);
    return clamp(Math.floor((Number.isNaN(value) ? 0 : value) + 0.5), low, high);
  });
}

// ---- text

const WHITE_SPACE = /[\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/u;

function tokenize(op, text) {
  if (op.lower ?? true) text = [...text].map((point) => point.toLowerCase()).join("");
  const how = op.split ?? "word";
  const found = how === "char" ? [...text]
    : how === "word" ? text.match(/[\p{L}\p{N}_]+/gu) ?? []
    : text.split(WHITE_SPACE).filter(Boolean);
  const table = new Map();
  op.vocabulary.forEach((token, i) => { if (!table.has(token)) table.set(token, i); });
  const unknown = op.unknown_id === undefined ? 1 : op.unknown_id;
  const ids = found.map((token) => (table.has(token) ? table.get(token) + (op.first_id ?? 2) : unknown))
    .filter((id) => id !== null);
  return tensor([ids.length], "int32", Int32Array.from(ids));
}

function pad(op, { data }) {
  let ids = Array.from(data, Number);
  if (ids.length > op.length) ids = op.cut === "start" ? ids.slice(-op.length) : ids.slice(0, op.length);
  const fill = Array(op.length - ids.length).fill(op.value ?? 0);
  return tensor([op.length], "int32", Int32Array.from(op.side === "start" ? [...fill, ...ids] : [...ids, ...fill]));
}

const STEPS = {
  decode, color, resize, center_crop: centerCrop, scale, normalize, layout, cast, tokenize, pad,
  normalize_per_image: normalizePerImage,
};

function start(value) {
  if (typeof value === "string") return value;
  if (value.width !== undefined) {
    const channels = value.channels ?? 4;
    return tensor([value.height, value.width, channels], "uint8", value.data);
  }
  if (value.shape !== undefined) return tensor(value.shape, value.dtype ?? "float64", value.data);
  const shape = [];
  for (let x = value; Array.isArray(x); x = x[0]) shape.push(x.length);
  return tensor(shape, "float64", Float64Array.from([value].flat(Infinity)));
}

export function prepare(operations, value) {
  let result = start(value);
  for (const operation of operations) {
    const step = STEPS[operation.op];
    if (!step) throw new Error(`unknown operation ${operation.op}`);
    result = step(operation, result);
  }
  return result.dtype === "float64" ? make(result.shape, "float32", (i) => result.data[i]) : result;
}
