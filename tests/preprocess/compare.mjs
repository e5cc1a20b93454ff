// Reads cases [{operations, value}], writes one line each: shape, dtype and the bytes of the result.
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const { prepare } = await import(pathToFileURL(process.argv[2]));
for (const { operations, value } of JSON.parse(readFileSync(0, "utf8"))) {
  const { shape, dtype, data } = prepare(operations, value);
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength).toString("hex");
  process.stdout.write(`${JSON.stringify(shape)} ${dtype} ${bytes}\n`);
}
