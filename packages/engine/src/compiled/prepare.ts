/**
 * Turns a pure function into a graph: it is traced once, or, if it has named axes, at several sizes whose traces are
 * merged.
 */
import { EngineError, TrainingError } from '@peftjs/core/method';
import { namedAxes, type PureFunction } from '@peftjs/core/runtime';
import { axisNames, sizedSpecs, type Sizes, type Specs } from '../axes.js';
import { checkFunction, checkSpecs } from '../checks.js';
import { keptBytesAt } from './forward-pass.js';
import { shownAttributes } from './parts.js';
import { merged, type RunGraph } from './merge.js';
import { NotDynamic } from './dynamic-graph.js';
import { INPUT_TYPES, traceWith, type TracedGraph, type Tracing } from './trace.js';

/** A function that was traced often enough to identify it. */
export interface Prepared {
  /** What the function computes, as text: functions with the same text compute the same. */
  readonly text: string;
  /** The bytes that it keeps of its forward pass for its backward pass, estimated for the given sizes. */
  keptBytes(at: Sizes): number;
  /** The graph for every size. @throws NotDynamic when there is no such graph. */
  graph(): Promise<RunGraph>;
}

/**
 * Sizes to trace at, in order of preference. Large sizes distinguish formulas best. Most of the first group can be
 * halved; the third of an axis is odd, so that ceil(n / 2) is not taken for n / 2. Smaller ones are for functions that
 * reject large ones, e.g. a network with a short context.
 */
const SIZES: readonly { readonly sizes: readonly number[]; readonly traces: number }[] = [
  { sizes: [58, 74, 86, 106, 122, 62, 81, 93, 118], traces: 3 },
  { sizes: [17, 23, 29, 19, 31, 37, 26, 34], traces: 5 },
  { sizes: [7, 11, 13, 17, 9, 14, 19], traces: 5 },
  { sizes: [3, 5, 4, 7, 6, 2], traces: 5 },
];

/** The number of traces after which merging is given up. */
const MAX_TRACES = 6;
/** With more rejected sizes than this, a whole group counts as rejected. */
const MAX_REFUSED = 3;
/** The number of traces that identify a function. */
const IDENTIFYING_TRACES = 2;

/**
 * Traces a function often enough to identify it.
 * @throws EngineError when it does something that a graph cannot express.
 * @throws ShapeError when a spec is impossible.
 */
export async function prepare(tracing: Tracing, fn: PureFunction, specs: Specs): Promise<Prepared> {
  checkFunction(fn);
  checkSpecs(specs, INPUT_TYPES);
  const names = axisNames(specs);
  const inputs = JSON.stringify(Object.entries(specs).map(([key, { dtype, shape }]) => [key, dtype, shape]));
  if (names.length === 0) {
    const only = await traceWith(tracing, fn, sizedSpecs(specs, {}));
    const keptBytes = (at: Sizes): number => keptBytesAt(at, [only], [{}]);
    return { text: inputs + shownTrace(only), keptBytes, graph: () => Promise.resolve(only) };
  }
  const open = await openTraces(tracing, fn, specs, names);
  const identifying = open.traces.slice(0, IDENTIFYING_TRACES);
  return {
    text: inputs + identifying.map(shownTrace).join(''),
    keptBytes: (at) => keptBytesAt(at, identifying, open.sizes),
    graph: () => open.merge(),
  };
}

/** The traces of one function; more are added when needed. */
class Traces {
  readonly traces: TracedGraph[] = [];
  readonly sizes: Sizes[] = [];
  readonly #left: Sizes[];
  readonly #refused: unknown[] = [];

  constructor(
    readonly trace: (at: Sizes) => Promise<TracedGraph>,
    readonly specs: Specs,
    readonly atFirst: number,
    sizes: readonly Sizes[],
  ) {
    this.#left = [...sizes];
  }

  /**
   * Traces until there are `count` traces; sizes that the function rejects are skipped.
   * @throws EngineError when it does something that a graph cannot express; the function's own error when it rejects
   * too many sizes.
   */
  async upTo(count: number): Promise<void> {
    while (this.traces.length < count) {
      const at = this.#left.shift();
      if (at === undefined || this.#refused.length > MAX_REFUSED) throw this.#refused[0];
      try {
        this.traces.push(await this.trace(at));
        this.sizes.push(at);
      } catch (error) {
        if (isFinal(error)) throw error;
        this.#refused.push(error);
      }
      await otherWork();
    }
  }

  /** @throws NotDynamic */
  async merge(): Promise<RunGraph> {
    for (let count = this.atFirst; ; count++) {
      await this.upTo(count);
      try {
        return merged(this.traces, this.specs, this.sizes);
      } catch (error) {
        const isOver = count >= MAX_TRACES || this.#left.length === 0;
        if (!(error instanceof NotDynamic && error.mayFollow) || isOver) throw error;
      }
    }
  }
}

/** Makes the first traces, with the first group of sizes that the function accepts. */
async function openTraces(tracing: Tracing, fn: PureFunction, specs: Specs, names: readonly string[]): Promise<Traces> {
  const trace = (at: Sizes): Promise<TracedGraph> => traceWith(tracing, fn, sizedSpecs(specs, at));
  let refusal: unknown;
  for (const { sizes, traces: atFirst } of SIZES) {
    const traces = new Traces(trace, specs, atFirst, tracedSizes(names, sizes, isAmbiguous(specs)));
    try {
      await traces.upTo(IDENTIFYING_TRACES);
      return traces;
    } catch (error) {
      if (isFinal(error)) throw error;
      refusal = error;
    }
  }
  throw refusal;
}

/** Whether an error is the same at every size. */
function isFinal(error: unknown): boolean {
  return error instanceof EngineError || error instanceof TrainingError;
}

/** Whether a size, or a multiple of it that an axis uses, is also the size of a weight and hence ambiguous. */
function isAmbiguous(specs: Specs): (size: number) => boolean {
  const axes = Object.values(specs).flatMap(({ shape }) => shape);
  const used = new Set(axes);
  const factors = [
    1,
    ...axes.flatMap((axis) => (typeof axis === 'string' ? namedAxes(axis).map(({ factor }) => factor) : [])),
  ];
  return (size) => factors.some((factor) => used.has(factor * size));
}

/**
 * Sizes of the axes for each trace. No axis gets the same size in two traces, ambiguous sizes come last, and two axes
 * of a trace get the same size only where no other is left.
 * @param isAmbiguous whether a size is ambiguous
 */
function tracedSizes(
  names: readonly string[],
  sizes: readonly number[],
  isAmbiguous: (size: number) => boolean,
): Sizes[] {
  const best = [...sizes.filter((size) => !isAmbiguous(size)), ...sizes.filter(isAmbiguous)];
  const left = names.map(() => [...best]);
  return best.map((_, trace) => {
    const here: number[] = [];
    left.forEach((own, axis) => {
      // Each axis goes through the sizes in a different order, so that no axis is almost a function of another.
      const [stride = 1] = STRIDES.slice(axis % STRIDES.length);
      const from = (stride * trace + 4 * axis) % own.length;
      const ahead = [...own.slice(from), ...own.slice(0, from)];
      const size = ahead.find((value) => !here.includes(value)) ?? ahead[0] ?? 0;
      here.push(size);
      own.splice(own.indexOf(size), 1);
    });
    return Object.fromEntries(names.map((name, axis) => [name, here[axis] as number]));
  });
}

const STRIDES = [2, 7, 5, 1];

/** Lets other tasks on the event loop run between two traces. */
function otherWork(): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve);
  });
}

/** What a trace computes, as text: operators and constants, and the names of inputs and outputs. */
function shownTrace({ nodes, constants, inputs, outputs }: TracedGraph): string {
  const lines = nodes.map(
    ({ op, domain, inputs, outputs, attributes }) =>
      `${domain}:${op}(${inputs.join('|')})${outputs.join('|')}${shownAttributes(attributes)}`,
  );
  const stored = constants.map(
    ({ name, dtype, shape, data }) => `${name} ${dtype} ${shape.join()} ${characters.decode(data)}`,
  );
  return [JSON.stringify([inputs, outputs]), ...lines, ...stored].join('\n');
}

/** Turns each byte into a character of its own. */
const characters = new TextDecoder('latin1');
