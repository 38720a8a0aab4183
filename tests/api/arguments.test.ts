import { rmSync } from 'node:fs';
import { onWarning, PeftError } from '@peftjs/core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { exported, folder, valid } from './valid-arguments.js';

const offline = process.env.HF_HUB_OFFLINE;
let restoreWarnings: ReturnType<typeof onWarning>;
beforeAll(() => {
  process.env.HF_HUB_OFFLINE = '1'; // a model that is not in memory is refused rather than downloaded
  restoreWarnings = onWarning(() => undefined);
});
afterAll(() => {
  restoreWarnings();
  if (offline === undefined) delete process.env.HF_HUB_OFFLINE;
  else process.env.HF_HUB_OFFLINE = offline;
  rmSync(folder, { recursive: true });
});

/** The wrong values, made for one call each, because the called function may change them. */
const wrongValues = () => [undefined, null, {}, [], 'text', 7];

/** Calls a function and frees what it returns. @returns the error that it throws, if any */
async function thrownBy(name: string, given: readonly unknown[]): Promise<unknown> {
  const called = exported[name] as (...all: unknown[]) => unknown;
  try {
    const result: unknown = await (name === 'PeftError' ? Reflect.construct(called, given) : called(...given));
    if (name === 'onWarning') (result as () => void)();
    await (result as Partial<Record<'dispose', () => unknown>> | undefined)?.dispose?.();
    return undefined;
  } catch (error) {
    return error;
  }
}

/** Whether an error, if any, is one that a user can act on. */
function isCoded(error: unknown): boolean {
  return error === undefined || (error instanceof PeftError && error.code.startsWith('PEFT_'));
}

function shown(value: unknown): string {
  return value === undefined ? 'undefined' : JSON.stringify(value);
}

const UNKNOWN = 'notAnOption';

/** Returns the names of a function's options, which it lists when it refuses an unknown one. */
function optionsIn(error: unknown): string[] {
  return /option 'notAnOption' is unknown.*; known are (.*)$/.exec(String(error))?.[1]?.split(', ') ?? [];
}

/** Functions whose last argument may hold more than their options. */
const OPEN = ['checkOnnx', 'createDataSet', 'saveGguf', 'saveGgufAdapter', 'saveMerged', 'saveOnnx'];

describe('every function exported by peftjs and @peftjs/core', () => {
  it('has valid arguments here', () => {
    expect(Object.keys(valid).sort()).toEqual(Object.keys(exported).sort());
  });

  it.each(Object.entries(valid))('%s succeeds or throws an error with a code', async (name, { given, options }) => {
    const found: string[] = [];
    const make = (changed: object = {}): unknown[] => (options ? [...given(), { ...options, ...changed }] : given());
    const check = async (arguments_: readonly unknown[], what: string): Promise<void> => {
      const error = await thrownBy(name, arguments_);
      if (!isCoded(error)) found.push(`${what}: ${String(error)} ${(error as Error).stack?.split('\n')[1]?.trim()}`);
    };
    const refused = options && (await thrownBy(name, make({ [UNKNOWN]: 1 })));
    if (options && !OPEN.includes(name)) expect(refused).toMatchObject({ code: 'PEFT_CONFIG', path: UNKNOWN });
    if (name !== 'pushToHub') expect(await thrownBy(name, make())).toBeUndefined(); // it would need a hub
    for (const position of make().keys()) {
      for (const wrong of wrongValues()) {
        await check(make().with(position, wrong), `argument ${position} is ${shown(wrong)}`);
      }
    }
    for (const option of new Set([...optionsIn(refused), ...Object.keys(options ?? {})])) {
      for (const wrong of wrongValues()) await check(make({ [option]: wrong }), `${option} is ${shown(wrong)}`);
    }
    expect(found).toEqual([]);
  });
});
