/**
 * Writes the adapters of tests/peft/adapters.ts for Hugging Face PEFT to open. The folder and PEFT's reading of it are
 * the fixtures from-peftjs.
 *
 *   npx tsx --conditions @peftjs/source tools/golden/write-adapters.ts tests/peft/fixtures/from-peftjs
 *   python3 -m venv venv && venv/bin/pip install torch==2.15.0 transformers==5.24.0 peft==0.21.2
 *   venv/bin/python tools/golden/open_in_peft.py tests/peft/fixtures/from-peftjs && npx oxfmt tests/peft/fixtures
 */
import { rm } from 'node:fs/promises';
import { ConfigError } from '@peftjs/core/method';
import { drawnAdapters, writeAdapters } from '../../tests/peft/adapters.js';

const [folder] = process.argv.slice(2);
if (folder === undefined) throw new ConfigError('name the folder to write to', 'folder');
await rm(folder, { recursive: true, force: true });
await writeAdapters(folder, drawnAdapters());
