import { cp, mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fromPretrained, saveGguf } from '@peftjs/models';
import { describe, expect, it } from 'vitest';
import { folderOfTest, temporaryFolder } from '../../tools/vitest/temporary-folder.js';
import { served } from '../cli/served.js';
import { characterDecoder } from '../models/characters.js';
import { fixture } from '../models/onnx.js';
import { filesBelow, root, textOf } from '../workspace/repository.js';
import { actionsOf, follow, type Variables } from './followed.js';

/** The expected final output, by tutorial. */
const seen: Readonly<Record<string, RegExp>> = {
  adalora: /encoder\S* +█+ \d+$/m,
  'adapter-to-transformers-js': /largest relative error of the logits: \d/,
  'compare-methods': /report\.html/,
  chat: /^\[.*"role":"assistant","content":/m,
  confidence: /^(?:not )?calibrated\b/m,
  distil: /^student taught \{[^]*accuracy: \d/m,
  'compiled-training': /found 1\.00 2\.00 -1\.00 -?0\.00 0\.50 3\.00/,
  gpu: /^trained on (webgpu|cpu): accuracy \d\.\d{3}$/m,
  gguf: /^\{"role":"assistant","content":/m,
  'long-training': /Stopped\. [^]*accuracy: \d/,
  lora: /^(good|bad ) \d\.\d\d The service was great\.$/m,
  preferences: /^after \{[^]*rewardAccuracy: \d/m,
  'own-layers-model': /merged 0\.\d+/,
  'own-model': /trainable params: [\d,]+/,
  rerank: /^[01]\.\d{3} \w+$/m,
  retrieval: /heron -?\d\.\d\d/,
  'scale-out': /results\/shares\/report\.html/,
  serve:
    /^lola \{"error":".*\(did you mean 'lora'\?\).*\none by one: p50 [\d.]+ ms, p99 [\d.]+ ms\nat once: \d+ requests a second$/m,
  sora: /^ +6 +\d+ +\d+ /m,
  'tag-entities': /entityF1: \d/,
  'tune-served': /^\d+ tensors of the graph changed, rounded by at most 0$/m,
  'write-a-method': /✓.* method\.test\.ts[^]*trainable params: [\d,]+/,
};

/** The encoder of the reader: small and random, unless PEFTJS_MINILM names a trained one. */
const encoder = process.env.PEFTJS_MINILM ?? join(root, 'tests/models/fixtures/bert-tiny');

/**
 * Environment variables of programs: local models instead of the hub's, a free port, a run long enough to be stopped.
 */
const variables: Readonly<Record<string, Variables>> = {
  chat: { MODEL: 'small-decoder' },
  distil: { TEACHER: encoder, STUDENT: encoder, EPOCHS: '1' },
  preferences: { MODEL: 'small-decoder', PAIRS: '16' },
  gguf: { MODEL: 'small.gguf' },
  gpu: { VK_ICD_FILENAMES: '/none.json', VK_DRIVER_FILES: '/none.json' }, // hides software GPU drivers
  'long-training': { ROWS: '200', EPOCHS: '3' }, // long enough for the first run to be stopped in time
  rerank: { MODEL: encoder },
  serve: { PORT: '0', REQUESTS: '16' },
  'tag-entities': { MODEL: encoder },
  'tune-served': { MODEL: 'model' },
};

/** Prepares the files that a tutorial expects in its folder, such as the reader's own model. */
const given: Readonly<Record<string, (folder: string) => Promise<void>>> = {
  chat: async (folder) => writeDecoder(join(folder, 'small-decoder')),
  preferences: async (folder) => writeDecoder(join(folder, 'small-decoder')),
  async gguf(folder) {
    await writeDecoder(join(folder, 'small-decoder'));
    const model = await fromPretrained(join(folder, 'small-decoder'), { task: 'causal-lm' });
    await saveGguf(model, join(folder, 'small.gguf'));
  },
  'tune-served': (folder) => served(join(folder, 'model'), { 'model.onnx': fixture('bert-dynamo.onnx') }),
  'own-model': (folder) =>
    cp(join(root, 'tests/models/fixtures/bert-tiny'), join(folder, 'models/my-bert'), { recursive: true }),
};

/** A small random Llama on characters, with a chat template. */
async function writeDecoder(folder: string): Promise<void> {
  const decoder = await characterDecoder('llama', 'abcdefghijklmnopqrstuvwxyz "?.\n', ['<|im_start|>', '<|im_end|>']);
  await mkdir(folder);
  for (const name of ['model.safetensors', 'tokenizer.json']) {
    await writeFile(join(folder, name), await decoder.read(`tiny/${name}`));
  }
  const config = JSON.parse(new TextDecoder().decode(await decoder.read('tiny/config.json'))) as object;
  await writeFile(join(folder, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 1024 }));
  await writeFile(join(folder, 'chat_template.jinja'), CHATML);
}

const CHATML = `{% for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

/** The pages that ask for commands. */
const guided = ['docs/tutorials', 'docs/guides']
  .flatMap(filesBelow)
  .filter((path) => path.endsWith('.md') && actionsOf(textOf(path)).some((action) => 'commands' in action));

it('the output of every page that is followed is known', () => {
  expect(guided.map((page) => basename(page, '.md')).sort()).toEqual(Object.keys(seen).sort());
});

describe('each tutorial and guide, followed from an empty folder', () => {
  const folder = temporaryFolder();

  it.each(guided)('%s', { timeout: 400_000 }, async (page) => {
    const name = basename(page, '.md');
    const own = join(folder, name);
    await mkdir(own);
    await given[name]?.(own);
    expect(await follow(page, own, variables[name])).toMatch(seen[name] ?? /(?!)/);
  });
});

it('the README, from an empty folder', { timeout: 400_000 }, async () => {
  const folder = folderOfTest();
  expect(await follow('README.md', folder)).toMatch(/^\S+ 0\.\d{3} +The soup was cold\.$/m);
  expect(await readdir(join(folder, 'sentiment-adapter'))).toContain('adapter_model.safetensors');
});
