import java.io.*;
import java.util.HexFormat;
import org.apache.kafka.common.utils.Utils;

/** Reads keys in hex, a line each, and prints where the default partitioner puts each of 7, 12 and 50 partitions. */
class Partitions {
  public static void main(String[] a) throws Exception {
    var in = new BufferedReader(new FileReader(a[0]));
    for (String l; (l = in.readLine()) != null; ) {
      int h = Utils.toPositive(Utils.murmur2(HexFormat.of().parseHex(l)));
      System.out.println(l + " " + h % 7 + " " + h % 12 + " " + h % 50);
    }
  }
}
