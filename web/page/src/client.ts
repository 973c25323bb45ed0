// The worker as a function that gives promises.

import type { Fault, PageData, Request } from "./protocol";

/** What a request could not do; with places if it is about a text. */
export class RequestError extends Error {
  constructor(readonly fault: Fault) {
    super(fault.message);
  }
}

/** The worker was stopped while it was at work. */
export class StoppedError extends Error {
  constructor() {
    super("stopped");
  }
}

export function bytes(base64: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
}

interface Waiting {
  resolve(answer: unknown): void;
  reject(error: Error): void;
}

export class Client {
  private worker: Worker;
  private readonly waiting = new Map<number, Waiting>();
  private next = 0;

  constructor(
    private readonly script: string,
    private readonly module: ArrayBuffer,
    private readonly data: PageData,
  ) {
    this.worker = this.start();
  }

  private start(): Worker {
    const address = URL.createObjectURL(new Blob([this.script], { type: "text/javascript" }));
    const worker = new Worker(address);
    worker.onmessage = ({ data }: MessageEvent<{ id: number; answer?: string; crashed?: string }>) => {
      const waiting = this.waiting.get(data.id);
      this.waiting.delete(data.id);
      if (data.answer === undefined) {
        waiting?.reject(new Error(`the emulator stopped (${data.crashed ?? "without a word"}): load the program again`));
        return;
      }
      const answer = JSON.parse(data.answer) as { error?: Fault };
      if (answer.error) waiting?.reject(new RequestError(answer.error));
      else waiting?.resolve(answer);
    };
    worker.onerror = (event) => {
      this.fail(new Error(`the emulator does not start: ${event.message}`));
    };
    const files = Object.entries(this.data.files).map(([path, contents]) => [path, bytes(contents)]);
    worker.postMessage({ start: { module: this.module, files } });
    URL.revokeObjectURL(address);
    return worker;
  }

  private fail(error: Error): void {
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const of of waiting) of.reject(error);
  }

  ask<T>(request: Request): Promise<T> {
    const id = this.next++;
    return new Promise<T>((resolve, reject) => {
      this.waiting.set(id, { resolve: (answer) => resolve(answer as T), reject });
      this.worker.postMessage({ id, request });
    });
  }

  /** Ends what the worker is doing, and begins a new one without a program. */
  restart(): void {
    this.worker.terminate();
    this.worker = this.start();
    this.fail(new StoppedError());
  }
}
