import { Ask } from './ask';
import { Train } from './train';

export default function Page() {
  return (
    <main>
      <h1>A classifier, fine-tuned with peftjs</h1>
      <h2>On the server</h2>
      <Ask />
      <h2>In this page</h2>
      <Train />
    </main>
  );
}
