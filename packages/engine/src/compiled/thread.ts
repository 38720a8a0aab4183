/**
 * ONNX Runtime in a thread of its own: sessions run there, and values stay there. To the rest of the engine it is one more ONNX
 * Runtime, whose tensors are handles. A process has one such thread: a run takes all the cores it is given, and two at a time would be
 * in each other's way.
 *
 * The thread keeps the process alive only while an answer is awaited. It ends when nothing can reach its runtime, a session or a value
 * of it any more; a value that is forgotten without `dispose` is given up there when the garbage collector finds it here.
 */
import { ConfigError, EngineError } from '@peftjs/core/method';
import { nodeModule } from '../host.js';
import { notInstalled, reasonOf } from './runtime.js';
import type { OrtData, OrtRuntime, OrtSession, OrtTensor } from './runtime.js';

/**
 * The process's thread as an ONNX Runtime. It starts when it is first needed; after one has ended there is a new one.
 *
 * @throws ConfigError where there are no threads of Node.
 */
export function threadRuntime(): OrtRuntime {
  if (nodeModule('node:worker_threads') === undefined) {
    throw new ConfigError(
      'worker: true needs the threads of Node; in a page leave it out, and call peftjs within a Web Worker',
      'worker',
    );
  }
  const known = current?.deref();
  if (known?.line.hasEnded === false) return known;
  const made = new ThreadRuntime();
  current = new WeakRef(made);
  return made;
}

let current: WeakRef<ThreadRuntime> | undefined;

class ThreadRuntime implements OrtRuntime {
  readonly line = new Line();
  readonly Tensor = uploadsTo(this);
  readonly InferenceSession = {
    create: async (model: Uint8Array, options?: object): Promise<OrtSession> => {
      const id = this.line.newId();
      const opened = (await this.line.call('open', { id, model, options })) as SessionNames;
      return {
        ...opened,
        run: (feeds) => this.#run(id, opened.outputNames, feeds),
        release: () => {
          this.line.forget(id);
          return Promise.resolve();
        },
      };
    },
  };

  constructor() {
    unusedLines.register(this, this.line);
  }

  async #run(session: number, outputNames: readonly string[], feeds: Feeds): Promise<Record<string, OrtTensor>> {
    const given = Object.entries(feeds).map(([name, value]) => [name, this.#idOf(value)] as const);
    const ids = outputNames.map((name) => [name, this.line.newId()] as const);
    const results = (await this.line.call('run', { session, given, ids })) as Output[];
    return Object.fromEntries(results.map(({ name, id, type, dims }) => [name, new Handle(this, id, type, dims)]));
  }

  #idOf(value: OrtTensor): number {
    if (value instanceof Handle && value.runtime === this) return value.id;
    throw new EngineError(
      'a value is of another executor, or of a thread that has ended; download it there and upload it',
    );
  }
}

type SessionNames = Pick<OrtSession, 'inputNames' | 'outputNames'>;
type Feeds = Parameters<OrtSession['run']>[0];

interface Output extends Pick<OrtTensor, 'type' | 'dims'> {
  readonly name: string;
  readonly id: number;
}

/** Stands for a tensor in the thread. */
class Handle implements OrtTensor {
  location: OrtTensor['location'] = 'cpu';

  constructor(
    readonly runtime: ThreadRuntime,
    readonly id: number,
    readonly type: OrtTensor['type'],
    readonly dims: readonly number[],
  ) {
    forgotten.register(this, { line: runtime.line, id }, this);
  }

  async getData(): Promise<OrtData> {
    return (await this.runtime.line.call('download', { id: this.id })) as OrtData;
  }

  dispose(): void {
    if (this.location === 'none') return;
    this.location = 'none';
    forgotten.unregister(this);
    this.runtime.line.forget(this.id);
  }
}

/** What a constructor of tensors is to a thread: the memory is copied once, and the copy handed over. */
function uploadsTo(runtime: ThreadRuntime): OrtRuntime['Tensor'] {
  return class extends Handle {
    constructor(type: OrtTensor['type'], data: OrtData, dims: readonly number[]) {
      const id = runtime.line.newId();
      super(runtime, id, type, dims);
      const copy = data.slice();
      runtime.line.send('upload', { id, type, dims, data: copy }, [copy.buffer]);
    }
  };
}

/** Ends threads whose runtime, sessions and values nothing can reach any more: all of these hold the runtime. */
const unusedLines = new FinalizationRegistry<Line>((line) => {
  line.end();
});

/** Gives up values whose handles nothing can reach any more. */
const forgotten = new FinalizationRegistry<{ readonly line: Line; readonly id: number }>(({ line, id }) => {
  line.forget(id);
});

/** Of a thread of Node what is used here. */
interface Worker {
  postMessage(message: object, transfer: readonly ArrayBufferLike[]): void;
  on(event: 'message', listener: (answer: Answer) => void): void;
  on(event: 'error', listener: (error: unknown) => void): void;
  on(event: 'exit', listener: (code: number) => void): void;
  ref(): void;
  unref(): void;
}

interface Answer {
  readonly call: number;
  readonly result?: unknown;
  /** What went wrong instead. */
  readonly error?: Error;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

/** Messages to the thread, and its answers. It holds nothing of what sends them, which could not be collected otherwise. */
class Line {
  readonly #calls = new Map<number, Call>();
  #worker: Worker | undefined;
  #lastId = 0;
  /** How it ended. */
  #end: string | undefined;

  get hasEnded(): boolean {
    return this.#end !== undefined;
  }

  /** A name for something in the thread. */
  newId(): number {
    return ++this.#lastId;
  }

  /** Has the thread do something. @throws EngineError when it has ended. */
  send(command: string, given: object, transfer: readonly ArrayBufferLike[] = [], call?: number): void {
    if (this.#end !== undefined) throw ended(this.#end);
    this.#worker ??= this.#start();
    this.#worker.postMessage({ command, given, call }, transfer);
  }

  /** Has the thread answer something. @throws EngineError when it has ended, or ends before it has; otherwise what went wrong. */
  call(command: string, given: object): Promise<unknown> {
    return new Promise((resolve, reject) => {
      const call = this.newId();
      this.send(command, given, [], call);
      this.#calls.set(call, { resolve, reject });
      this.#worker?.ref();
    });
  }

  /** Gives up a value or a session. */
  forget(id: number): void {
    if (!this.hasEnded) this.send('release', { id });
  }

  end(): void {
    if (this.#worker && !this.hasEnded) this.send('end', {});
  }

  #start(): Worker {
    const { Worker } = nodeModule('node:worker_threads') as { Worker: new (source: string, options: object) => Worker };
    // Flags of this process, e.g. a loader of TypeScript, are nothing that the thread has a use for.
    const workerData = { runtime: pathOfRuntime(), state: new Int32Array(new SharedArrayBuffer(8)) };
    const worker = new Worker(SOURCE, { eval: true, name: 'peftjs', execArgv: [], workerData });
    const atExit = lastsUntilIdle(workerData.state);
    worker.on('message', ({ call, result, error }) => {
      const { resolve, reject } = this.#calls.get(call) as Call;
      this.#calls.delete(call);
      if (this.#calls.size === 0) worker.unref();
      if (error === undefined) resolve(result);
      else reject(error);
    });
    worker.on('error', (error) => {
      this.#ended(reasonOf(error));
    });
    worker.on('exit', (code) => {
      atExit.cancel();
      this.#ended(`with exit code ${code}`);
    });
    worker.unref();
    return worker;
  }

  #ended(how: string): void {
    this.#end ??= how;
    for (const { reject } of this.#calls.values()) reject(ended(this.#end));
    this.#calls.clear();
  }
}

/** Milliseconds that an exit waits for a run. */
const LONGEST_EXIT = 60_000;

/**
 * Has the process, when it exits, wait for what the thread is doing: ONNX Runtime aborts the process when its thread is stopped in the
 * middle of a run.
 * @param state whether the thread is busy, and whether it may not go on to the next command
 */
function lastsUntilIdle(state: Int32Array<SharedArrayBuffer>): { cancel(): void } {
  const process = nodeModule('node:process') as Record<'on' | 'off', (event: 'exit', listener: () => void) => void>;
  const wait = (): void => {
    Atomics.store(state, 1, 1);
    Atomics.wait(state, 0, 1, LONGEST_EXIT);
  };
  process.on('exit', wait);
  return {
    cancel() {
      process.off('exit', wait);
    },
  };
}

function ended(how: string): EngineError {
  return new EngineError(
    `the thread that runs graphs has ended (${how}), and its values are lost; go on with a new compiled({ worker: true })`,
  );
}

/** Where this package finds ONNX Runtime: the thread is started from a text, which is nowhere. */
function pathOfRuntime(): string {
  const { createRequire } = nodeModule('node:module') as {
    createRequire(from: string): { resolve(name: string): string };
  };
  try {
    return createRequire(import.meta.url).resolve('onnxruntime-node');
  } catch (cause) {
    throw notInstalled(cause);
  }
}

/**
 * The thread. It is a text and no file, so that it is there whatever a bundler makes of this package. It does one thing after another,
 * as they were sent: a value may be given up right after the run that reads it was sent.
 */
const SOURCE = `
const { parentPort, workerData } = require('node:worker_threads');
const { runtime, state } = workerData;
Atomics.store(state, 0, 1);
const { InferenceSession, Tensor } = require(runtime);
const held = new Map(); // values and sessions by their ids

const commands = {
  upload({ id, type, data, dims }) {
    held.set(id, new Tensor(type, data, dims));
  },
  async download({ id }) {
    return (await held.get(id).getData()).slice();
  },
  async open({ id, model, options }) {
    const session = await InferenceSession.create(model, options);
    held.set(id, session);
    return { inputNames: session.inputNames, outputNames: session.outputNames };
  },
  async run({ session, given, ids }) {
    const feeds = Object.fromEntries(given.map(([name, id]) => [name, held.get(id)]));
    const results = await held.get(session).run(feeds);
    return ids.map(([name, id]) => {
      const { type, dims } = results[name];
      held.set(id, results[name]);
      return { name, id, type, dims };
    });
  },
  async release({ id }) {
    const given = held.get(id);
    held.delete(id);
    await (given instanceof Tensor ? given.dispose() : given.release());
  },
  end() {
    parentPort.close();
  },
};

function rest() {
  Atomics.store(state, 0, 0);
  Atomics.notify(state, 0);
}

async function answer({ command, given, call }) {
  Atomics.store(state, 0, 1);
  if (Atomics.load(state, 1) === 1) return rest(); // the process exits
  try {
    const result = await commands[command](given);
    if (call === undefined) return;
    parentPort.postMessage({ call, result }, ArrayBuffer.isView(result) ? [result.buffer] : []);
  } catch (error) {
    if (call === undefined) throw error;
    parentPort.postMessage({ call, error });
  } finally {
    rest();
  }
}

rest();
let last = Promise.resolve();
parentPort.on('message', (message) => {
  last = last.then(() => answer(message));
});
`;
