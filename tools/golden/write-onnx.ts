/**
 * Exports the checkpoints that tools/golden/onnx_past.py made, each into its folder `web`, and generates 64 tokens with
 * each (`ours.json`). If PEFTJS_TRANSFORMERS_JS names a folder where @huggingface/transformers is installed, its tokens
 * must be the same.
 *
 *   npx tsx --conditions @peftjs/source tools/golden/write-onnx.ts FOLDER
 */
import { readdir, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { ConfigError, EngineError } from '@peftjs/core/method';
import { checkOnnx, compiled, exportOnnxFiles } from '@peftjs/engine';
import { fromPretrained, generate, saveOnnx } from '@peftjs/models';

const [target] = process.argv.slice(2);
if (target === undefined) throw new ConfigError('name the folder of the checkpoints', 'folder');

/** The part of @huggingface/transformers used here. */
interface TransformersJs {
  readonly env: { allowRemoteModels: boolean; localModelPath: string };
  readonly Tensor: new (type: 'int64', data: BigInt64Array, dims: readonly number[]) => unknown;
  readonly AutoModelForCausalLM: {
    from_pretrained(
      folder: string,
      options: object,
    ): Promise<{ generate(options: object): Promise<{ tolist(): bigint[][] }>; dispose(): Promise<unknown> }>;
  };
}

const installed = process.env.PEFTJS_TRANSFORMERS_JS ?? '';
const library =
  installed === ''
    ? undefined
    : (createRequire(join(installed, 'package.json'))('@huggingface/transformers') as TransformersJs);

const PROMPTS = [[5, 9, 11], [3], Array.from({ length: 40 }, (_, index) => index + 4)];
const NEW_TOKENS = 64;

async function write(name: string): Promise<void> {
  const folder = resolve(target as string, name);
  const model = await fromPretrained(folder, { task: 'causal-lm' });
  const files = [await exportOnnxFiles(model), await exportOnnxFiles(model, { dtype: 'q8' })] as const;
  const distances = [
    await checkOnnx(files[0], model, model),
    await checkOnnx(files[1], model, { ...model, dtype: 'q8' }),
  ];
  await saveOnnx(model, new Map([...files[0], ...files[1]]), join(folder, 'web'), model);
  const texts = await generate(model, PROMPTS, { executor: compiled(), maxNewTokens: NEW_TOKENS, eosTokenId: [] });
  const tokens = texts.map(({ ids }) => ids);
  await writeFile(join(folder, 'ours.json'), JSON.stringify({ prompts: PROMPTS, tokens }));
  const others = library && (await theirTokens(library, folder));
  if (others && JSON.stringify(others) !== JSON.stringify(tokens)) {
    throw new EngineError(
      `${name}: transformers.js writes ${JSON.stringify(others)}, peftjs ${JSON.stringify(tokens)}`,
    );
  }
  const shown = distances.map((distance) => distance.toExponential(1)).join(' and ');
  process.stdout.write(`${name}: ${shown} in 8 bits${others ? '; transformers.js writes the same' : ''}\n`);
}

async function theirTokens({ env, Tensor, AutoModelForCausalLM }: TransformersJs, folder: string): Promise<number[][]> {
  Object.assign(env, { allowRemoteModels: false, localModelPath: folder });
  const model = await AutoModelForCausalLM.from_pretrained('web', { dtype: 'fp32' });
  const tokens: number[][] = [];
  for (const prompt of PROMPTS) {
    const inputs = new Tensor('int64', BigInt64Array.from(prompt, BigInt), [1, prompt.length]);
    const options = { max_new_tokens: NEW_TOKENS, do_sample: false, eos_token_id: -1 };
    const [row = []] = (await model.generate({ inputs, ...options })).tolist();
    tokens.push(row.slice(prompt.length).map(Number));
  }
  await model.dispose();
  return tokens;
}

for (const name of await readdir(target)) await write(name);
