/** Attributes, items and slices of values, as Jinja2 looks them up. */
import { Fault, type Budget } from './budget.js';
import { methodOf } from './methods.js';
import {
  integerOf,
  isMapping,
  likeList,
  listOf,
  Missing,
  Namespace,
  numberOf,
  textIn,
  typeName,
  undefinedError,
  type Value,
} from './values.js';

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
export function memberOf(budget: Budget, owner: Value, { key, isName }: Member): Value {
  if (owner instanceof Missing) throw undefinedError(owner);
  const name = textIn(key);
  const method = name === undefined ? undefined : methodOf(budget, owner, name);
  if (isName && method) return method;
  const item = itemOf(budget, owner, key);
  if (item !== undefined) return item;
  const shown = name === undefined ? String(numberOf(key) ?? typeName(key)) : `'${name}'`;
  return method ?? new Missing(`'${typeName(owner)} object' has no attribute ${shown}`);
}

function itemOf(budget: Budget, owner: Value, key: Value): Value | undefined {
  const fields = owner instanceof Namespace ? owner.fields : owner;
  const name = textIn(key);
  if (isMapping(fields)) return name === undefined ? undefined : fields.get(name);
  const [index, text] = [integerOf(key), textIn(owner)];
  if (index === undefined) return undefined;
  if (text === undefined) return listOf(owner)?.at(index);
  budget.codePoints(text.length);
  return Array.from(text).at(index);
}

/**
 * Python's slices.
 * @param limits the start, the stop and the step; undefined for those left out
 * @throws Fault for a value that has none.
 */
export function sliceOf(budget: Budget, owner: Value, limits: readonly (Value | undefined)[]): Value {
  if (owner instanceof Missing) throw undefinedError(owner);
  const [start, stop, step = 1] = limits.map(limitOf);
  if (step === 0) throw new Fault('slice step cannot be zero');
  const [items, text] = [listOf(owner), textIn(owner)];
  if (items) {
    budget.items(items.length);
    return likeList(owner, sliced(items, { start, stop, step }));
  }
  if (text === undefined) throw new Fault(`'${typeName(owner)}' object cannot be sliced`);
  budget.codePoints(text.length);
  const isPlain = step === 1 && !/[\ud800-\udfff]/.test(text);
  return isPlain ? text.slice(start, stop) : sliced(Array.from(text), { start, stop, step }).join('');
}

function limitOf(limit: Value = null): number | undefined {
  if (limit === null) return undefined;
  if (limit instanceof Missing) throw undefinedError(limit);
  const given = integerOf(limit);
  if (given === undefined) throw new Fault('slice indices must be integers or None');
  return given;
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
