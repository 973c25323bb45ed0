// The encoder layer's Kanata file, read by Konata's own parser, and held against the report and the table of commands of the same run.
//
// usage: konata.mjs KONATA FOLDER
//
// KONATA is a checkout of github.com/shioyadan/Konata; the folder has layer.kanata, report.json and commands.jsonl. esbuild, which takes
// the types out of the parser, is one of the packages of the page.

import assert from "node:assert/strict";
import { createReadStream, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const [konata, folder] = process.argv.slice(2);
const { buildSync } = createRequire(new URL("../../web/page/package.json", import.meta.url))("esbuild");

/** Konata's parser, as a module. */
async function parserOf(checkout) {
  const out = mkdtempSync(join(tmpdir(), "konata-"));
  try {
    const outfile = join(out, "parser.mjs");
    buildSync({
      entryPoints: [join(checkout, "src/core/onikiri_parser.ts")],
      bundle: true,
      format: "esm",
      logLevel: "error",
      outfile,
    });
    return (await import(pathToFileURL(outfile))).OnikiriParser;
  } finally {
    rmSync(out, { recursive: true });
  }
}

/** What the parser wants of a file: its lines, one after the other. */
function reader(name) {
  const readLines = async (onLine) => {
    for await (const line of createInterface({ input: createReadStream(name) })) onLine(line);
  };
  return { name, canceled: false, readLines };
}

const Parser = await parserOf(konata);
const trace = await new Parser().parse(reader(join(folder, "layer.kanata")));
const { report } = JSON.parse(readFileSync(join(folder, "report.json"), "utf8"));
const lines = readFileSync(join(folder, "commands.jsonl"), "utf8").trimEnd().split("\n");
// Commands that set up or begin a loop never enter the station.
const commands = lines.map((line) => JSON.parse(line)).filter((command) => command.allocated !== null);

assert.equal(trace.warningCount, 0, "Konata's parser has warnings");
assert.equal(trace.opCount, report.totals.station_commands);
assert.equal(commands.length, trace.opCount);
const bySeq = new Map(commands.map((command) => [command.seq, command]));
// The viewer's time begins with the file.
const start = Math.min(...commands.map((command) => command.allocated));
const main = trace.stageLevelMap.getLaneID("0");
let arrows = 0;
for (let id = 0; id < trace.opCount; id++) {
  const op = trace.getOp(id);
  const command = bySeq.get(op.gid);
  assert.deepEqual(
    [op.tid, op.fetchedCycle, op.retiredCycle, op.retired],
    [["ld", "ex", "st"].indexOf(command.queue), command.allocated - start, command.completed + 1 - start, true],
    `command ${op.gid}`,
  );
  const issued = op.lanes[main].stages.find((stage) => stage.name !== "Q");
  assert.equal(issued.startCycle, command.issued - start, `command ${op.gid} is issued`);
  for (const { opID } of op.prods) assert.ok(opID < id, `command ${op.gid} waits for one behind it`);
  arrows += op.prods.length;
}
console.log(`Konata's parser: ${trace.opCount} commands, ${arrows} arrows, no warning`);
