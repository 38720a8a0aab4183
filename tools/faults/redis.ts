import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { PeftError } from '@peftjs/core';

/** A Redis server of its own, with a free port and a temporary folder. */
export interface RedisServer {
  /** Its address. */
  readonly url: string;
  /** Its port. */
  readonly port: number;
  /** Kills it by kill -9. */
  kill(): Promise<void>;
  /** Starts it again on the same port: with the data in its folder, or without any if `forgetful`. */
  restart(options?: { readonly forgetful?: boolean }): Promise<void>;
  /** Kills it and removes its folder. */
  stop(): Promise<void>;
}

/** The settings of a Redis server. */
export interface RedisOptions {
  /** Whether every change is written to a file at once. Default false: nothing is written. */
  readonly persistent?: boolean;
  /** The password. Default none. */
  readonly password?: string;
  /** More command-line options. Default none. */
  readonly options?: readonly string[];
}

/** Whether `redis-server` is installed. */
export const hasRedis = spawnSync('redis-server', ['--version']).status === 0;

/** Starts a Redis and waits until it listens. */
export async function startRedis({
  persistent = false,
  password,
  options = [],
}: RedisOptions = {}): Promise<RedisServer> {
  const folder = await mkdtemp(join(tmpdir(), 'peftjs-redis-'));
  const port = await freePort();
  const flags = ['--port', String(port), '--bind', '127.0.0.1', '--dir', folder, '--save', ''];
  if (persistent) flags.push('--appendonly', 'yes', '--appendfsync', 'always');
  if (password !== undefined) flags.push('--requirepass', password);
  const start = async (): Promise<ChildProcess> => {
    const child = spawn('redis-server', [...flags, ...options], { stdio: 'ignore' });
    await listening(port);
    return child;
  };
  let server = await start();
  const kill = async (): Promise<void> => {
    if (server.exitCode !== null || server.signalCode !== null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
  };
  return {
    url: `redis://${password === undefined ? '' : `:${password}@`}127.0.0.1:${port}`,
    port,
    kill,
    async restart({ forgetful = false } = {}) {
      if (forgetful) await rm(join(folder, 'appendonlydir'), { recursive: true, force: true });
      server = await start();
    },
    async stop() {
      await kill();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        resolve(typeof address === 'object' && address ? address.port : 0);
      });
    });
  });
}

async function listening(port: number): Promise<void> {
  for (let tries = 0; tries < 200; tries++) {
    if (await accepts(port)) return;
    await setTimeout(50);
  }
  throw new PeftError('PEFT_FAULTS', `redis-server does not listen on port ${port}`);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.on('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.on('error', () => {
      resolve(false);
    });
  });
}
