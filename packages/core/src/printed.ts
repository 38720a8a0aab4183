import { activeRanks, storedParameters, thousands } from './adapter/accounting.js';
import type { Adapter, PeftModel } from './adapter/peft-model.js';

/*
 * What `console.log` shows in Node, Bun and Deno for values that hold thousands of numbers: a summary that fits on one
 * screen. Browsers show the values themselves.
 */

/** Node's key for the method that prints a value. */
const INSPECT = Symbol.for('nodejs.util.inspect.custom');

/**
 * Makes a value print as lines of text, without the control characters that names from a file may hold. It stays plain
 * data: the method is not enumerable, so copies, comparisons and JSON leave it out.
 */
export function printedAs<T extends object>(value: T, lines: () => readonly string[]): T {
  const text = (): string =>
    lines()
      .map((line) => line.replace(/\p{Cc}/gu, ' '))
      .join('\n');
  return Object.defineProperty(value, INSPECT, { value: text });
}

/** Makes a model with adapters print with a line for each adapter. */
export function printedModel<P extends PeftModel>(peft: P): P {
  return printedAs(peft, () => [
    `${peft.model.name} with ${counted(peft.adapters.size, 'adapter')}${peft.enabled ? '' : ', disabled'}`,
    ...[...peft.adapters.values()].map((adapter) => adapterLine(peft, adapter)),
  ]);
}

function adapterLine({ active, merged }: PeftModel, { name, method, layers, values, saved }: Adapter): string {
  const ranks = Object.values(activeRanks(layers, values));
  const [least, most] = [Math.min(...ranks), Math.max(...ranks)];
  const whole = Object.keys(saved);
  const parts = [
    method.name,
    ...(active.includes(name) ? ['active'] : []),
    ...(merged.includes(name) ? ['merged'] : []),
    `${thousands(storedParameters(layers, values))} parameters in ${counted(Object.keys(layers).length, 'module')}`,
    ...(ranks.length > 0 ? [least === most ? `rank ${least}` : `ranks ${least} to ${most}`] : []),
    ...(whole.length > 0 ? [`also trained: ${shortened(whole, ', ')}`] : []),
  ];
  return `  ${name}: ${parts.join(', ')}`;
}

/** The most kinds of modules, and the most items of a list, that are printed. */
const MOST_KINDS = 10;
const MOST_ITEMS = 16;

/** Returns the ranks of modules, those of the same kind in one line: `encoder.layer.*.ffn.in  6 5`. */
export function rankLines(ranks: Readonly<Record<string, number>>): string[] {
  const all = Object.values(ranks);
  if (all.length > 1 && new Set(all).size === 1) return [`${all[0]} in each of ${all.length} modules`];
  const kinds = new Map<string, number[]>();
  for (const [path, rank] of Object.entries(ranks)) {
    const kind = path.replace(/(?<=^|\.)\d+(?=\.|$)/g, '*');
    kinds.set(kind, [...(kinds.get(kind) ?? []), rank]);
  }
  const lines = [...kinds].slice(0, MOST_KINDS).map(([kind, of]) => `${kind}  ${shortened(of, ' ')}`);
  return kinds.size > MOST_KINDS ? [...lines, `.. and ${kinds.size - MOST_KINDS} more kinds of modules`] : lines;
}

/** Makes the outputs of rows print as the first numbers of the first rows. */
export function printedOutputs(outputs: Float32Array[]): Float32Array[] {
  return printedAs(outputs, () => [
    `outputs of ${counted(outputs.length, 'row')}`,
    ...outputs
      .slice(0, MOST_ITEMS)
      .map((row) => `  ${shortened([...row.subarray(0, MOST_ITEMS + 1)].map(short), ' ')}`),
    ...(outputs.length > MOST_ITEMS ? ['  ..'] : []),
  ]);
}

function shortened(items: readonly unknown[], separator: string): string {
  const shown = items.slice(0, MOST_ITEMS).join(separator);
  return items.length > MOST_ITEMS ? `${shown} ..` : shown;
}

/** A number to three digits. */
export function short(value: number): string {
  return String(Number(value.toPrecision(3)));
}

function counted(amount: number, noun: string): string {
  return `${amount} ${noun}${amount === 1 ? '' : 's'}`;
}
