/**
 * Compares greedy generation of a real decoder with that of transformers, token for token, alone and in one batch, and
 * the ids of the prompts.
 *
 *   python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0
 *   PEFTJS_PYTHON=venv/bin/python npx tsx --conditions @peftjs/source tools/golden/real-decoder.ts SmolLM2-135M
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ConfigError } from '@peftjs/core/method';
import { compiled } from '@peftjs/engine';
import { fromPretrained, openGenerator } from '@peftjs/models';

const NEW_TOKENS = 64;

const [folder] = process.argv.slice(2);
const python = process.env.PEFTJS_PYTHON;
if (folder === undefined || python === undefined) {
  throw new ConfigError(
    'name the folder of a decoder, and set PEFTJS_PYTHON to a Python that has transformers',
    'folder',
  );
}
const script = fileURLToPath(new URL('real_decoder.py', import.meta.url));
const { status, stdout } = spawnSync(python, [script, folder, String(NEW_TOKENS)], {
  encoding: 'utf8',
  stdio: ['ignore', 'pipe', 'inherit'],
});
if (status !== 0) throw new ConfigError(`${script} exited with status ${status}`, script);

interface Text {
  readonly text: string;
  readonly prompt: readonly number[];
  /** The generated tokens up to the first uncertain one. */
  readonly written: readonly number[];
}

const texts = JSON.parse(stdout) as Text[];
const model = await fromPretrained(folder, { task: 'causal-lm' });
const generator = openGenerator(model, { executor: compiled() });
const options = { maxNewTokens: NEW_TOKENS, eosTokenId: [] };
const batched = await generator.generate(
  texts.map(({ prompt }) => prompt),
  options,
);
let different = 0;
for (const [number, { text, prompt, written }] of texts.entries()) {
  const [alone] = await generator.generate([prompt], options);
  const sameIds = model.tokenizer.encode(text).ids.join() === prompt.join();
  const same = [alone, batched[number]].map((own) => written.every((id, place) => own?.ids[place] === id));
  const [isAlone, isBatched] = same.map((each) => (each ? 'equal' : 'DIFFERENT'));
  if (!sameIds || same.includes(false)) different++;
  process.stdout.write(
    `${JSON.stringify(text)}: ${written.length} of ${NEW_TOKENS} tokens certain; ids ${sameIds ? 'equal' : 'DIFFERENT'}, alone ${isAlone}, in a batch ${isBatched}\n`,
  );
}
await generator.dispose();
if (different > 0) process.exitCode = 1;
