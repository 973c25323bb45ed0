// The systolic array, PE by PE.

import { colour, dark, find, h, prepare } from "./dom";
import type { ArrayView, Heat, Register } from "./protocol";

/** Rows and columns that are shown at once through the lens. */
const LENS = 16;
/** Arrays up to this size are shown with the registers around them. */
const WITH_EDGES = 8;
const HEADER = 18;

export const MODES = ["all", "stationary", "moving", "a", "b", "d", "rows", "products"] as const;
export type Mode = (typeof MODES)[number];

const at = <T>(matrix: T[][] | undefined, row: number, column: number, otherwise: T): T => matrix?.[row]?.[column] ?? otherwise;

/** Matrices that follow each other have colours that are far from each other. */
export function matrixColour(matrix: number): string {
  const hue = (matrix * 137.5 + 205) % 360;
  return dark.matches ? `hsl(${hue} 55% 30%)` : `hsl(${hue} 70% 82%)`;
}

function heatColour(share: number): string {
  const light = dark.matches ? 14 + 46 * share : 96 - 50 * share;
  return `hsl(${28 - 18 * share} ${40 + 50 * share}% ${light}%)`;
}

export class ArrayPane {
  readonly canvas = find<HTMLCanvasElement>("array");
  private readonly detail = find("pe");
  private readonly mode = find<HTMLSelectElement>("array-mode");
  private readonly lens = find<HTMLInputElement>("lens");
  private readonly lensLabel = find("lens-label");
  private readonly edges = find<HTMLInputElement>("edges");
  private readonly products = find("products");
  private array: ArrayView | undefined;
  private heat: Heat | null = null;
  private cell = 1;
  row = 0;
  column = 0;

  constructor(private readonly changed: () => void) {
    this.canvas.addEventListener("click", (event) => {
      const { row, column } = this.first();
      const { left, above } = this.around();
      this.select(row + Math.floor((event.offsetY - HEADER) / this.cell) - above, column + Math.floor((event.offsetX - HEADER) / this.cell) - left);
    });
    this.canvas.addEventListener("keydown", (event) => {
      const moves: Record<string, [number, number]> = {
        ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1],
      };
      const move = moves[event.key];
      if (!move || event.shiftKey || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      this.select(this.row + move[0], this.column + move[1]);
    });
    this.mode.addEventListener("change", () => this.changed());
    this.lens.addEventListener("change", () => this.draw());
    this.edges.addEventListener("change", () => this.draw());
  }

  get shown(): Mode {
    return MODES.find((mode) => mode === this.mode.value) ?? "all";
  }

  show(mode: string): void {
    if (MODES.some((of) => of === mode)) this.mode.value = mode;
  }

  get needsHeat(): boolean {
    return this.shown === "rows" || this.shown === "products";
  }

  select(row: number, column: number): void {
    const most = (this.array?.dim ?? 1) - 1;
    this.row = Math.min(Math.max(row, 0), most);
    this.column = Math.min(Math.max(column, 0), most);
    this.draw();
    this.changed();
  }

  update(array: ArrayView, heat: Heat | null): void {
    if (this.array?.dim !== array.dim) {
      this.lensLabel.hidden = array.dim <= LENS;
      this.lens.checked = false;
      this.edges.checked = array.dim <= WITH_EDGES;
      this.row = Math.min(this.row, array.dim - 1);
      this.column = Math.min(this.column, array.dim - 1);
    }
    this.array = array;
    this.heat = heat;
    this.draw();
  }

  /** Rows and columns that are shown: all, or those around the selected one. */
  private extent(): number {
    const dim = this.array?.dim ?? 1;
    return this.lens.checked && dim > LENS ? LENS : dim;
  }

  /** Registers that are shown around the PEs: so many at most on each side. */
  private around(): { left: number; above: number; below: number } {
    const shown = this.edges.checked && this.extent() === this.array?.dim;
    const most = (registers: unknown[][] | undefined): number => (shown ? Math.max(0, ...(registers ?? []).map((of) => of.length)) : 0);
    return { left: most(this.array?.left), above: most(this.array?.above), below: most(this.array?.below) };
  }

  private first(): { row: number; column: number } {
    const extent = this.extent();
    const most = (this.array?.dim ?? 1) - extent;
    const start = (selected: number): number => Math.min(Math.max(selected - extent / 2, 0), most);
    return { row: start(this.row), column: start(this.column) };
  }

  private value(row: number, column: number): number | null {
    const array = this.array;
    if (!array) return null;
    const second = at(array.computes_with, row, column, 1) === 2;
    const valid = at(array.valid, row, column, false);
    switch (this.shown) {
      case "all": case "stationary": return at(second ? array.c2 : array.c1, row, column, 0);
      case "moving": return at(second ? array.c1 : array.c2, row, column, 0);
      case "a": return valid ? at(array.a, row, column, 0) : null;
      case "b": return valid ? at(array.b, row, column, 0) : null;
      case "d": return valid ? at(array.d, row, column, 0) : null;
      case "rows": return at(this.heat?.rows, row, column, 0);
      case "products": return at(this.heat?.products, row, column, 0);
    }
  }

  draw(): void {
    const array = this.array;
    if (!array) return;
    const extent = this.extent();
    const first = this.first();
    const width = this.canvas.clientWidth || 400;
    const room = Math.max(160, Math.min(width, 560)) - HEADER - 2;
    const { left, above, below } = this.around();
    this.cell = Math.max(4, Math.min(92, Math.floor(room / (left + extent))));
    const context = prepare(this.canvas, width, HEADER + (above + extent + below) * this.cell + 2);
    const [originX, originY] = [HEADER + left * this.cell, HEADER + above * this.cell];
    context.font = "10px system-ui, sans-serif";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const numbered = this.cell >= 14 ? 1 : Math.ceil(14 / this.cell);
    context.fillStyle = colour("faint");
    for (let i = 0; i < extent; i += numbered) {
      const middle = (i + 0.5) * this.cell;
      context.fillText(String(first.column + i), originX + middle, HEADER / 2);
      context.fillText(String(first.row + i), HEADER / 2, originY + middle);
    }
    const cycles = Math.max(1, (this.heat?.to ?? 0) - (this.heat?.from ?? 0));
    for (let row = 0; row < extent; row++) {
      for (let column = 0; column < extent; column++) {
        this.drawCell(context, first.row + row, first.column + column, originX + column * this.cell, originY + row * this.cell, cycles);
      }
    }
    if (left + above + below > 0) {
      // The newest stands farthest from the PEs before the array, and nearest behind it.
      array.left.forEach((registers, row) => registers.forEach((of, i) => this.drawRegister(context, of, originX + (i - registers.length) * this.cell, originY + row * this.cell)));
      array.above.forEach((registers, column) => registers.forEach((of, i) => this.drawRegister(context, of, originX + column * this.cell, originY + (i - registers.length) * this.cell)));
      array.below.forEach((registers, column) => registers.forEach((of, i) => this.drawRegister(context, of, originX + column * this.cell, originY + (extent + i) * this.cell)));
      context.strokeStyle = colour("faint");
      context.lineWidth = 1;
      context.strokeRect(originX - 0.5, originY - 0.5, extent * this.cell, extent * this.cell);
    }
    context.strokeStyle = colour("focus");
    context.lineWidth = 2;
    const [x, y] = [this.column - first.column, this.row - first.row];
    context.strokeRect(originX + x * this.cell, originY + y * this.cell, this.cell, this.cell);
    this.describe();
    this.name();
  }

  /** A register beside the PEs. */
  private drawRegister(context: CanvasRenderingContext2D, register: Register | null, x: number, y: number): void {
    const inset = this.cell >= 12 ? this.cell / 10 : 0;
    const size = this.cell - 2 * inset;
    context.fillStyle = register ? matrixColour(register.matrix) : colour("bubble");
    context.fillRect(x + inset, y + inset, size, size);
    if (register && this.cell >= 20) {
      const text = String(register.value);
      context.font = `${Math.max(7, Math.min(12, (1.5 * size) / Math.max(3, text.length)))}px system-ui, sans-serif`;
      context.fillStyle = colour("soft");
      context.fillText(text, x + this.cell / 2, y + this.cell / 2);
    }
  }

  /** The matrix products in the array by their commands. */
  private name(): void {
    const products = (this.array as ArrayView).products.map(({ matrix, commands }) =>
      h("li", {}, h("i", { style: `background:${matrixColour(matrix)}` }), commands.map(([seq, text]) => `${seq}: ${text}`).join("; ") || "a flush"),
    );
    this.products.replaceChildren(...products);
  }

  private drawCell(context: CanvasRenderingContext2D, row: number, column: number, x: number, y: number, cycles: number): void {
    const array = this.array as ArrayView;
    const valid = at(array.valid, row, column, false);
    const gap = this.cell >= 12 ? 1 : 0;
    const size = this.cell - gap;
    const value = this.value(row, column);
    if (this.needsHeat) context.fillStyle = heatColour(Math.min(1, (value ?? 0) / cycles));
    else context.fillStyle = valid ? matrixColour(at(array.matrix, row, column, 0)) : colour("bubble");
    context.fillRect(x, y, size, size);
    if (valid && at(array.last, row, column, false) && !this.needsHeat) {
      // The last row of its matrix has an edge below.
      context.fillStyle = colour("text");
      context.fillRect(x, y + size - 2, size, 2);
    }
    const middle = [x + size / 2, y + size / 2] as const;
    if (this.shown === "all" && this.cell >= 44) {
      context.font = `600 ${Math.min(16, this.cell / 4)}px system-ui, sans-serif`;
      context.fillStyle = colour("text");
      context.fillText(String(value), middle[0], middle[1]);
      context.font = `${Math.min(11, this.cell / 6)}px system-ui, sans-serif`;
      context.fillStyle = colour("soft");
      if (valid) {
        context.textAlign = "left";
        context.fillText(`\u2192${at(array.a, row, column, 0)}`, x + 3, y + this.cell * 0.2);
        context.textAlign = "right";
        context.fillText(`\u2193${at(array.b, row, column, 0)}`, x + size - 3, y + size * 0.8);
        context.textAlign = "center";
      }
      return;
    }
    if (value === null) {
      context.fillStyle = colour("faint");
      context.beginPath();
      context.arc(middle[0], middle[1], Math.max(1, this.cell / 14), 0, 2 * Math.PI);
      context.fill();
    } else if (this.cell >= 20) {
      const text = String(value);
      context.font = `${Math.max(7, Math.min(14, (1.6 * size) / Math.max(3, text.length)))}px system-ui, sans-serif`;
      context.fillStyle = colour("text");
      context.fillText(text, middle[0], middle[1]);
    }
  }

  /** A matrix product by the last of its commands, or by its number if that is not known. */
  private productOf(matrix: number): string {
    const product = this.array?.products.find((product) => product.matrix === matrix);
    const command = product?.commands.at(-1);
    if (command) return `command ${command[0]} (${command[1]})`;
    return product ? "a flush" : `matrix ${matrix}`;
  }

  /** The selected PE in words. */
  private describe(): void {
    const array = this.array as ArrayView;
    const [row, column] = [this.row, this.column];
    const computing = at(array.computes_with, row, column, 1);
    const valid = at(array.valid, row, column, false);
    const parts = [`PE ${row}, ${column}: c1 = ${at(array.c1, row, column, 0)}, c2 = ${at(array.c2, row, column, 0)}, computes with c${computing}`];
    if (valid) {
      const stationary = at(array.weight_stationary, row, column, false);
      parts.push(
        `A = ${at(array.a, row, column, 0)} from the left`,
        `${stationary ? "partial sum" : "B"} = ${at(array.b, row, column, 0)} from above`,
        `D = ${at(array.d, row, column, 0)}`,
        `${this.productOf(at(array.matrix, row, column, 0))}, ${stationary ? "weight" : "output"}-stationary${at(array.last, row, column, false) ? ", its last row" : ""}`,
      );
    } else {
      parts.push("a bubble: no row is here");
    }
    if (this.heat) {
      const cycles = this.heat.to - this.heat.from;
      parts.push(`in the last ${cycles} cycles ${at(this.heat.rows, row, column, 0)} rows, ${at(this.heat.products, row, column, 0)} products other than 0`);
    }
    this.detail.replaceChildren(h("span", {}, `${parts.join("; ")}.`));
    this.canvas.setAttribute("aria-label", `Systolic array of ${array.dim} by ${array.dim} in cycle ${array.cycle}. ${parts.join("; ")}`);
  }
}
