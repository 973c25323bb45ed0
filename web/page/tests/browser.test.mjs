// The page in a headless Chromium, opened from disk as a person would. Pictures of it are left in target/page.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { folder, page as write, pollux, script, text } from "./pollux.mjs";

const TILE = "programs/matmul_ws_tile.pasm";
const OUTSIDE = /^(?!file:|blob:|data:)/;

let browser;
before(async () => {
  browser = await chromium.launch({ executablePath: process.env.POLLUX_CHROMIUM, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/** Opens a page; nothing may go wrong in it, and nothing leave it. */
async function open(path, { hash = "", scheme = "light", width = 1360 } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height: 900 } });
  // A busy machine is no fault of the page.
  context.setDefaultTimeout(300_000);
  const page = await context.newPage();
  page.faults = [];
  page.on("console", (message) => ["error", "warning"].includes(message.type()) && page.faults.push(message.text()));
  page.on("pageerror", (error) => page.faults.push(error.message));
  page.on("request", (request) => OUTSIDE.test(request.url()) && page.faults.push(`request of ${request.url()}`));
  await page.goto(`${pathToFileURL(path)}${hash}`);
  await page.waitForSelector("html[data-ready=true]");
  return page;
}

async function close(page) {
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

const at = (page, cycle) => page.waitForFunction((text) => document.getElementById("status").textContent.startsWith(text), `Cycle ${cycle} of `);
const cycleOf = async (page) => Number(await page.inputValue("#cycle"));

test("a run is stepped forward and back, by buttons and by keys", async () => {
  const page = await open(write("steps", TILE));
  const native = JSON.parse(pollux("run", TILE, "--cycles", "--json"));
  assert.equal(await page.textContent("#totals"), `${native.cycles} cycles, 10 commands`);
  await page.click("#step");
  await at(page, 1);
  await page.click("#step16");
  await at(page, 17);
  await page.click("#back");
  await at(page, 16);
  await page.locator("#h-array").click();
  for (const [key, cycle] of [["ArrowRight", 17], ["Shift+ArrowRight", 33], ["ArrowLeft", 32], ["h", 31], ["l", 32], ["Home", 0]]) {
    await page.keyboard.press(key);
    await at(page, cycle);
  }
  const [end] = script(TILE, ["end"]);
  await page.keyboard.press("End");
  await at(page, end.cycle);
  assert.match(await page.textContent("#status"), /the end of the run/);
  await page.keyboard.press("g");
  await page.keyboard.type("60");
  await page.keyboard.press("Enter");
  await at(page, 60);
  await page.keyboard.press("Escape");
  await page.selectOption("#speed", "60");
  await page.click("#play");
  await page.waitForFunction(() => Number(document.getElementById("cycle").value) > 65);
  await page.click("#play");
  await page.fill("#slider", "40");
  await at(page, 40);
  await close(page);
});

test("searches and explanations are those of the native command", async () => {
  const page = await open(write("why", TILE, "--cycle", "21"));
  const [, why, found, back] = script(TILE, ["goto 21", "why issue_executes", "until completed store", "reverse-until matrix"]);
  assert.equal(await cycleOf(page), 21);
  await page.getByRole("button", { name: "Why is issue executes as it is?" }).click();
  await page.waitForSelector("#why ol li");
  assert.equal((await page.textContent("#why p")).trim(), `issue executes, cycle 21. ${why.why.sentence}`);
  assert.equal(await page.locator("#why ol li").count(), why.why.chain.length);
  await page.getByRole("button", { name: `Go to cycle ${why.why.until.cycle}` }).click();
  await at(page, why.why.until.cycle);
  await page.fill("#until", "completed store");
  await page.click("#until-forward");
  await at(page, found.hit);
  await page.fill("#until", "matrix");
  await page.click("#until-back");
  await at(page, back.hit);
  await page.fill("#until", "mark lunch");
  await page.click("#until-forward");
  await page.waitForFunction(() => document.getElementById("status").textContent.includes("no operation has this name"));
  await page.fill("#console", "view station.execute");
  await page.keyboard.press("Enter");
  const [, view] = script(TILE, [`goto ${back.hit}`, "view station.execute"]);
  await page.waitForFunction(() => document.getElementById("console-out").textContent.includes("cycle"));
  assert.deepEqual(JSON.parse(await page.textContent("#console-out")), view);
  await close(page);
});

/** Colours of a picture at some places, read by the browser itself. */
function pixels(page, picture, places) {
  return page.evaluate(
    async ([picture, places]) => {
      const image = new Image();
      image.src = `data:image/png;base64,${picture}`;
      await image.decode();
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [image.width, image.height];
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(image, 0, 0);
      return places.map(([x, y]) => [...context.getImageData(x, y, 1, 1).data].slice(0, 3).join());
    },
    [picture.toString("base64"), places],
  );
}

for (const scheme of ["light", "dark"]) {
  test(`the picture of the array shows rows and bubbles (${scheme})`, async () => {
    // The first cycle in which some PEs have a row and some have none.
    const steps = Array.from({ length: 12 }, () => ["step 1", "view array"]).flat();
    const arrays = script(TILE, ["until operand_row", ...steps]).map((result) => result.view).filter(Boolean);
    const array = arrays.find(({ valid }) => new Set(valid.flat()).size === 2);
    const page = await open(write("picture", TILE), { hash: `#cycle=${array.cycle}&pe=3,3`, scheme });
    await page.uncheck("#edges");
    const cells = array.valid.flatMap((row, i) => row.map((valid, j) => ({ valid, i, j })));
    const size = await page.evaluate(() => document.getElementById("array").clientHeight);
    const cell = (size - 20) / 4;
    const places = cells.map(({ i, j }) => [Math.round(18 + (j + 0.12) * cell), Math.round(18 + (i + 0.5) * cell)]);
    const colours = await pixels(page, await page.locator("#array").screenshot(), places);
    const of = (valid) => new Set(colours.filter((_, index) => cells[index].valid === valid));
    assert.equal(of(false).size, 1, [...of(false)].join(" "));
    assert.ok([...of(true)].every((colour) => !of(false).has(colour)), colours.join(" "));
    assert.match(await page.textContent("#pe"), /^PE 3, 3: c1 = /);
    // What heat shows is another picture.
    const plain = await page.locator("#array").screenshot();
    await page.selectOption("#array-mode", "rows");
    await page.waitForFunction(() => document.getElementById("pe").textContent.includes("in the last"));
    assert.notDeepEqual(await page.locator("#array").screenshot(), plain);
    await close(page);
  });
}

test("light and dark are two pictures of the whole page", async () => {
  const backgrounds = [];
  for (const scheme of ["light", "dark"]) {
    const page = await open(write("blocked", "programs/matmul_ws_blocked.pasm"), { hash: "#cycle=200", scheme });
    await page.getByRole("button", { name: "Why is issue stores as it is?" }).click();
    await page.waitForSelector("#why ol li");
    await page.screenshot({ path: join(folder, `page-${scheme}.png`) });
    backgrounds.push(await page.evaluate(() => getComputedStyle(document.body).backgroundColor));
    await close(page);
  }
  assert.notEqual(backgrounds[0], backgrounds[1]);
});

test("the assembler's faults stand at their lines, and a good text runs", async () => {
  const page = await open(write("editor", TILE));
  const good = text(TILE);
  const line = good.split("\n").findIndex((of) => of.startsWith("mvin dram=A")) + 1;
  await page.fill("#text", good.replace("mvin dram=A", "mvni dram=A"));
  await page.waitForSelector(".fault");
  assert.match(await page.textContent(".fault"), new RegExp(`^Line ${line}:1 .*mvni`));
  assert.equal(await page.locator("#marks .bad").count(), 1);
  assert.equal(await page.evaluate(() => document.querySelector("#marks .bad").style.top), `${(line - 1) * 18}px`);
  await page.getByRole("button", { name: `Line ${line}:1` }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), "text");
  await page.fill("#text", good.replace("\nfence", "\nfence\nmvin dram=A local=a cols=DIM rows=DIM\nfence"));
  await page.waitForFunction(() => document.getElementById("faults").textContent.includes("11 commands"));
  await page.keyboard.press("Control+Enter");
  await page.waitForFunction(() => document.getElementById("totals").textContent.includes("11 commands"));
  await close(page);
});

test("a link is the program and the cycle, in any page", async () => {
  const page = await open(write("link", TILE));
  await page.fill("#text", text("programs/matmul_os_tile.pasm"));
  await page.keyboard.press("Control+Enter");
  await page.waitForFunction(() => location.hash.includes("program="));
  await page.click("#h-array");
  await page.keyboard.press("Shift+ArrowRight");
  await at(page, 16);
  await page.waitForFunction(() => location.hash.includes("cycle=16"));
  const hash = new URL(page.url()).hash;
  await close(page);
  const other = await open(write("other", "programs/softmax.pasm"), { hash });
  assert.equal(await cycleOf(other), 16);
  assert.equal(await other.inputValue("#text"), text("programs/matmul_os_tile.pasm"));
  await close(other);
  const broken = await open(write("other", "programs/softmax.pasm"), { hash: "#cycle=x" });
  assert.equal(await broken.inputValue("#text"), text("programs/softmax.pasm"));
  await close(broken);
});

test("programs with files, and binaries, open as they are", async () => {
  const softmax = await open(write("softmax", "programs/softmax.pasm", "--cycle", "200"));
  assert.equal(await cycleOf(softmax), 200);
  assert.match(await softmax.textContent("#totals"), /30 commands/);
  await softmax.selectOption("#memory-what", { index: 2 });
  await softmax.waitForFunction(() => document.querySelectorAll("#memory td").length > 0);
  await close(softmax);
  pollux("asm", TILE, "-o", "target/page/tile.pbin");
  const binary = await open(write("binary", "target/page/tile.pbin"));
  assert.match(await binary.inputValue("#text"), /^config small4/m);
  await close(binary);
});

test("a lab opens, and is graded", async () => {
  const page = await open(write("lab", TILE));
  await page.selectOption("#lab", "1");
  await page.waitForFunction(() => document.getElementById("lab-title").textContent.startsWith("Lab 1"));
  await page.waitForFunction(() => document.getElementById("text").value.includes("config"));
  await page.click("#lab-check");
  await page.waitForFunction(() => document.getElementById("lab-result").className === "error");
  await page.fill("#text", text("crates/labs/labs/1/reference.pasm"));
  await page.click("#lab-check");
  await page.waitForFunction(() => document.getElementById("lab-result").className === "ok");
  assert.match(await page.textContent("#lab-result"), /^accepted: \d+ cycles/);
  await close(page);
});

test("a lab whose answer is in TOML has its program, its wrong element and a place for the answer", async () => {
  const page = await open(write("answers", TILE));
  await page.selectOption("#lab", "3");
  await page.waitForFunction(() => document.getElementById("text").value.includes("# Lab 3:"));
  await page.waitForFunction(() => document.getElementById("status").textContent.startsWith("Cycle 0 of "));
  await page.locator("#h-array").click();
  await page.keyboard.press("End");
  await page.waitForFunction(() => /the end of the run\. C\[\d+, \d+\] at 0x[0-9a-f]+ is -?\d+, expected -?\d+\./.test(document.getElementById("status").textContent));
  assert.match(await page.inputValue("#lab-answer"), /^seed = \d+\ncommand = 0/);
  await page.click("#lab-check");
  await page.waitForFunction(() => /^wrong result: /.test(document.getElementById("lab-result").textContent));
  await page.fill("#lab-answer", text("crates/labs/labs/3/reference.toml"));
  await page.click("#lab-check");
  await page.waitForFunction(() => document.getElementById("lab-result").className === "ok");
  await page.selectOption("#lab", "10");
  await page.waitForFunction(() => document.getElementById("lab-answer").value.includes("[config]"));
  await page.click("#lab-check");
  await page.waitForFunction(() => /^too slow: /.test(document.getElementById("lab-result").textContent));
  await page.fill("#lab-answer", text("crates/labs/labs/10/reference.toml"));
  await page.click("#lab-check");
  await page.waitForFunction(() => document.getElementById("lab-result").className === "ok");
  await close(page);
});

test("the array has the registers of its skew and the commands of its products", async () => {
  const [, { view }] = script(TILE, ["until matrix", "view array"]);
  const [{ cycle }, { view: later }] = script(TILE, [`goto ${view.cycle + 4}`, "view array"]);
  const held = (registers) => registers.flat().filter(Boolean).length;
  assert.ok(held(later.left) + held(later.above) > 0, "rows are on their way in");
  const page = await open(write("skew", TILE, "--cycle", String(cycle)));
  await at(page, cycle);
  const named = later.products.map(({ commands }) => commands.map(([seq, text]) => `${seq}: ${text}`).join("; "));
  assert.ok(named.length > 0);
  assert.deepEqual(await page.locator("#products li").allTextContents(), named);
  const height = async () => (await page.locator("#array").boundingBox()).height;
  assert.equal(await page.isChecked("#edges"), true);
  assert.equal(await page.isVisible("#lens-label"), false);
  const around = await height();
  const most = (registers) => Math.max(...registers.map((of) => of.length));
  const [left, above, below] = [most(later.left), most(later.above), most(later.below)];
  const cell = (around - 20) / (above + 4 + below);
  // Left of a row A stands as far from the PEs as it has registers to go, above a column B.
  const registers = [
    ...later.left.flatMap((of, row) => of.map((register, i) => ({ register, x: left + i - of.length, y: above + row }))),
    ...later.above.flatMap((of, column) => of.map((register, i) => ({ register, x: left + column, y: above + i - of.length }))),
    ...later.below.flatMap((of, column) => of.map((register, i) => ({ register, x: left + column, y: above + 4 + i }))),
  ];
  const places = registers.map(({ x, y }) => [Math.round(18 + (x + 0.2) * cell), Math.round(18 + (y + 0.2) * cell)]);
  const colours = await pixels(page, await page.locator("#array").screenshot(), places);
  const bubbles = new Set(colours.filter((_, i) => registers[i].register === null));
  assert.equal(bubbles.size, 1, [...bubbles].join(" "));
  assert.ok(registers.every(({ register }, i) => (register === null) === bubbles.has(colours[i])), colours.join(" "));
  await page.uncheck("#edges");
  assert.notEqual(await height(), around);
  await page.locator("#array").click({ position: { x: 30, y: 30 } });
  assert.match(await page.textContent("#pe"), /^PE 0, 0:/);
  await close(page);
});

test("everything has a name, and the focus is seen", async () => {
  const page = await open(write("keys", TILE));
  const nameless = await page.evaluate(() => {
    const name = (element) =>
      element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.[0]?.textContent.trim() || "";
    const controls = [...document.querySelectorAll("button, input, select, textarea, canvas, [tabindex='0']")];
    return controls.filter((element) => !name(element)).map((element) => element.outerHTML);
  });
  assert.deepEqual(nameless, []);
  const seen = new Set();
  for (let i = 0; i < 90; i++) {
    await page.keyboard.press("Tab");
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      const shown = element.closest(".editor") ?? element;
      return { id: element.id, outline: getComputedStyle(shown).outlineStyle };
    });
    if (focus.id === "text") await page.keyboard.press("Escape");
    if (focus.id) seen.add(focus.id);
    if (focus.id) assert.notEqual(focus.outline, "none", focus.id);
  }
  for (const id of ["start", "step", "cycle", "slider", "until", "link", "text", "array", "subject", "timeline", "memory-row", "console"]) {
    assert.ok(seen.has(id), `${id} is not reached by Tab`);
  }
  await page.focus("#array");
  await page.keyboard.press("ArrowDown");
  assert.match(await page.textContent("#pe"), /^PE 1, 0:/);
  await page.keyboard.press("?");
  assert.equal(await page.evaluate(() => document.getElementById("keys").open), true);
  await page.keyboard.press("Escape");
  await page.focus("#timeline");
  await page.keyboard.press("+");
  await close(page);
});

test("a narrow screen shows all of it, one below the other", async () => {
  const page = await open(write("narrow", TILE), { width: 390 });
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth + 1));
  await close(page);
});

test("a search can be stopped, and the run goes on where it was", async () => {
  const page = await open(write("stop", TILE, "--cycle", "30"));
  await page.fill("#until", "stall load_controller for 100000");
  await page.evaluate(() => {
    document.getElementById("until-forward").click();
    document.getElementById("stop").click();
  });
  await page.waitForFunction(() => document.getElementById("status").textContent === "Stopped in cycle 30.");
  await page.click("#step");
  await at(page, 31);
  await close(page);
});
