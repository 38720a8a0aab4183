import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { memoryStorage, type Executor } from '@peftjs/core';
import { compiled } from '@peftjs/engine';
import { lora } from '@peftjs/lora';
import { sora } from '@peftjs/sora';
import type { EntityGroup, LabelScore, RankedDocument, TokenEntity } from '@peftjs/pipelines';

/** The folder of a small random model made by tools/golden/pipelines.py. */
export const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));

/** The outputs of transformers and sentence-transformers for texts. */
export const expected = JSON.parse(readFileSync(fixture('expected.json'), 'utf8')) as {
  readonly texts: readonly string[];
  readonly query: string;
  readonly taggers: Readonly<
    Record<
      string,
      {
        readonly entities: Readonly<Record<string, readonly (TokenEntity | EntityGroup)[][]>>;
        readonly all: readonly TokenEntity[][];
      }
    >
  >;
  readonly classified: Readonly<Record<'several' | 'one', LabelScore[][]>>;
  readonly ranked: readonly RankedDocument[];
};

export const methods = [lora, sora];

/** Folders in memory, each with the name of its fixture. */
export async function inMemory(...names: readonly string[]): Promise<ReturnType<typeof memoryStorage>> {
  const storage = memoryStorage();
  for (const name of names) {
    for (const file of readdirSync(fixture(name))) {
      await storage.write(`${name}/${file}`, new Uint8Array(readFileSync(fixture(`${name}/${file}`))));
    }
  }
  return storage;
}

/** An executor that counts what it compiles and disposes of. */
export function counting(): { executor: Executor; compiles: () => number; disposed: () => number } {
  const own: Executor = compiled({ threads: 1 });
  let [compiles, disposed] = [0, 0];
  const executor: Executor = {
    ...own,
    async compile(...given) {
      compiles++;
      const program = await own.compile(...given);
      return {
        ...program,
        async dispose() {
          disposed++;
          await program.dispose();
        },
      };
    },
  };
  return { executor, compiles: () => compiles, disposed: () => disposed };
}
