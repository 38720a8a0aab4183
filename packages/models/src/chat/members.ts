/** Attributes, items and slices of values, as Jinja2 looks them up. */
import { Fault } from './budget.js';
import type { Value } from './jinja.js';
import { methodOf } from './methods.js';
import { isList, isMapping, numberOf, typeName, undefinedError, type Runtime } from './values.js';

/** What to look up: `a.name`, or `a[key]`. */
export interface Member {
  readonly key: Value;
  readonly isName: boolean;
}

/**
 * Returns a member of a value, undefined if it has none. `a.name` is first a method, then an item; `a['name']` is first
 * an item.
 * @throws Fault for a member of an undefined value.
 */
export function memberOf(runtime: Runtime, owner: Value, { key, isName }: Member): Value {
  if (owner.type === 'UndefinedValue') throw undefinedError(owner);
  const method = (): Value | undefined =>
    key.type === 'StringValue' ? methodOf(runtime, owner, key.value) : undefined;
  const found = isName ? (method() ?? itemOf(runtime, owner, key)) : (itemOf(runtime, owner, key) ?? method());
  if (found) return found;
  const name = key.type === 'StringValue' ? `'${key.value}'` : String(numberOf(key) ?? typeName(key));
  return runtime.make.missing(`'${typeName(owner)} object' has no attribute ${name}`);
}

function itemOf({ make, budget }: Runtime, owner: Value, key: Value): Value | undefined {
  if (isMapping(owner) || owner.type === 'NamespaceValue') {
    return key.type === 'StringValue' ? owner.value.get(key.value) : undefined;
  }
  if (key.type !== 'IntegerValue' && key.type !== 'BooleanValue') return undefined;
  const index = Number(key.value);
  if (isList(owner)) return owner.value.at(index);
  if (owner.type !== 'StringValue') return undefined;
  budget.codePoints(owner.value.length);
  const character = index < 0 ? fromEnd(owner.value, -index) : fromStart(owner.value, index);
  return character === undefined ? undefined : make.text(character);
}

function fromStart(text: string, index: number): string | undefined {
  let at = 0;
  for (const character of text) if (at++ === index) return character;
  return undefined;
}

function fromEnd(text: string, index: number): string | undefined {
  return Array.from(text).at(-index);
}

/**
 * Python's slices.
 * @param limits the start, the stop and the step; undefined for those left out
 * @throws Fault for a value that has none.
 */
export function sliceOf(runtime: Runtime, owner: Value, limits: readonly (Value | undefined)[]): Value {
  const { make, budget } = runtime;
  if (owner.type === 'UndefinedValue') throw undefinedError(owner);
  const [start, stop, step = 1] = limits.map(limitOf);
  if (step === 0) throw new Fault('slice step cannot be zero');
  if (isList(owner)) {
    budget.items(owner.value.length);
    const items = sliced(owner.value, { start, stop, step });
    return owner.type === 'ArrayValue' ? make.list(items) : make.tuple(items);
  }
  if (owner.type !== 'StringValue') throw new Fault(`'${typeName(owner)}' object cannot be sliced`);
  budget.codePoints(owner.value.length);
  const { value: text } = owner;
  const isPlain = step === 1 && !/[\ud800-\udfff]/.test(text);
  return make.text(isPlain ? text.slice(start, stop) : sliced(Array.from(text), { start, stop, step }).join(''));
}

function limitOf(limit: Value | undefined): number | undefined {
  if (!limit || limit.type === 'NullValue') return undefined;
  if (limit.type === 'IntegerValue' || limit.type === 'BooleanValue') return Number(limit.value);
  throw limit.type === 'UndefinedValue' ? undefinedError(limit) : new Fault('slice indices must be integers or None');
}

interface Limits {
  readonly start: number | undefined;
  readonly stop: number | undefined;
  readonly step: number;
}

function sliced<T>(items: readonly T[], { start, stop, step }: Limits): T[] {
  const { length } = items;
  const [lowest, highest] = step > 0 ? [0, length] : [-1, length - 1];
  const within = (at: number): number => Math.min(Math.max(at < 0 ? at + length : at, lowest), highest);
  const first = start === undefined ? (step > 0 ? lowest : highest) : within(start);
  const end = stop === undefined ? (step > 0 ? highest : lowest) : within(stop);
  const kept: T[] = [];
  for (let at = first; step > 0 ? at < end : at > end; at += step) kept.push(items[at] as T);
  return kept;
}
