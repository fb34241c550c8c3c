// PgJDBC against one server: prints `ok` or `FAILED` for each behaviour.
//
// Arguments: connection string, file of the CA, file of another CA, bytes of the large result.
// Not supported by PgJDBC: pipeline mode. It pipelines the statements of a batch, which `pipeline` shows.

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.BatchUpdateException;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.TimeUnit;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;

/** The program: {@link #main} runs every behaviour. */
public final class JdbcClient {
  private static final int COPIED = 100_000;
  private static final int PIPELINED = 500;
  private static final int ROW = 1 << 20;
  private static final long LARGE_PARAMETER = 16 << 20;
  // For what happens at once, on a machine busy with other tests.
  private static final long PROMPT_MS = 5_000;
  // For one behaviour.
  private static final long BOUND_S = 90;
  // The virtual machine needs most of it. The whole result would not fit into the heap that the test gives it.
  private static final long PEAK_KIB = 700 << 10;

  private final URI url;
  private final String ca;
  private final String otherCa;
  private final long large;

  private JdbcClient(String[] arguments) {
    url = URI.create(arguments[0]);
    ca = arguments[1];
    otherCa = arguments[2];
    large = Long.parseLong(arguments[3]);
  }

  public static void main(String[] arguments) {
    boolean failed = false;
    ExecutorService worker = Executors.newCachedThreadPool(task -> {
      Thread thread = new Thread(task);
      thread.setDaemon(true);
      return thread;
    });
    for (Map.Entry<String, Callable<String>> behaviour : new JdbcClient(arguments).behaviours(worker).entrySet()) {
      try {
        String detail = worker.submit(behaviour.getValue()).get(BOUND_S, TimeUnit.SECONDS);
        System.out.println(("ok " + behaviour.getKey() + " " + detail).strip());
      } catch (Exception error) {
        failed = true;
        Throwable cause = error instanceof ExecutionException ? error.getCause() : error;
        System.out.println("FAILED " + behaviour.getKey() + ": " + cause.toString().replaceAll("\\s+", " "));
      }
    }
    System.exit(failed ? 1 : 0);
  }

  private Map<String, Callable<String>> behaviours(ExecutorService worker) {
    String[] verified = {"sslmode=verify-full", "sslrootcert=" + ca};
    Map<String, Callable<String>> all = new LinkedHashMap<>();
    all.put("tls_disable", () -> encrypted(false));
    all.put("tls_require", () -> encrypted(true, "sslmode=require"));
    all.put("tls_verify_full", () -> encrypted(true, verified));
    all.put("tls_wrong_ca_refused", this::wrongCaRefused);
    all.put("channel_binding", () -> encrypted(true, with(verified, "channelBinding=require")));
    all.put("direct_tls", () -> encrypted(true, with(verified, "sslNegotiation=direct")));
    all.put("scram_wrong_password_refused", this::wrongPasswordRefused);
    all.put("prepared", this::prepared);
    all.put("large_parameter", this::largeParameter);
    all.put("copy_in", this::copyIn);
    all.put("copy_out", this::copyOut);
    all.put("listen_notify", this::listenNotify);
    all.put("cancel", () -> cancelled(worker));
    all.put("cancel_tls", () -> cancelled(worker, verified));
    all.put("pipeline", this::pipeline);
    all.put("large_result", this::largeResult);
    all.put("error_keeps_session", this::errorKeepsSession);
    all.put("clean_close", this::cleanClose);
    all.put("protocol_3_2", () -> cancelled(worker, "sslmode=disable", "protocolVersion=3.2"));
    return all;
  }

  /** Opens a session, without TLS unless a setting (`name=value`) says otherwise. */
  private Connection connect(String... settings) throws SQLException {
    String[] account = url.getRawUserInfo().split(":", 2);
    Properties properties = new Properties();
    properties.setProperty("user", decoded(account[0]));
    properties.setProperty("password", decoded(account[1]));
    properties.setProperty("loginTimeout", "10");
    properties.setProperty("sslmode", "disable");
    for (String setting : settings) {
      String[] pair = setting.split("=", 2);
      properties.setProperty(pair[0], pair[1]);
    }
    return DriverManager.getConnection("jdbc:postgresql://" + url.getAuthority().split("@")[1] + url.getPath(), properties);
  }

  private String encrypted(boolean wanted, String... settings) throws SQLException {
    try (Connection connection = connect(settings)) {
      String ssl = one(connection, "SELECT ssl::text FROM pg_stat_ssl WHERE pid = pg_backend_pid()");
      check(ssl.equals(String.valueOf(wanted)), "the server says that TLS is " + ssl);
    }
    return "";
  }

  private String wrongCaRefused() throws SQLException {
    try (Connection connection = connect("sslmode=verify-full", "sslrootcert=" + otherCa)) {
      throw new IllegalStateException("connected, though the CA signed nothing");
    } catch (SQLException error) {
      check(String.valueOf(error.getCause()).contains("path"), "refused for another reason: " + error.getCause());
    }
    return "";
  }

  private String wrongPasswordRefused() throws SQLException {
    try (Connection connection = connect("password=wrong")) {
      throw new IllegalStateException("connected with a wrong password");
    } catch (SQLException error) {
      state(error, "28P01");
    }
    return "";
  }

  private String prepared() throws SQLException {
    try (Connection connection = connect();
        PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2, ?::text || '!'")) {
      for (int number = 0; number < 100; number++) {
        statement.setInt(1, number);
        statement.setString(2, "n" + number);
        try (ResultSet row = statement.executeQuery()) {
          row.next();
          check(row.getInt(1) == number * 2 && row.getString(2).equals("n" + number + "!"), "row " + number);
        }
      }
      String known = one(connection, "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%|| ''!'''");
      check(known.equals("1"), "the server knows " + known + " such statements");
    }
    return "100 executions";
  }

  private String largeParameter() throws SQLException {
    byte[] value = new byte[(int) LARGE_PARAMETER];
    for (int index = 0; index < value.length; index++) {
      value[index] = (byte) (index * 31L % 251);
    }
    try (Connection connection = connect();
        PreparedStatement statement = connection.prepareStatement("SELECT ?::bytea")) {
      statement.setBytes(1, value);
      try (ResultSet row = statement.executeQuery()) {
        row.next();
        check(Arrays.equals(row.getBytes(1), value), "the value came back changed");
      }
    }
    return LARGE_PARAMETER + " bytes there and back";
  }

  private String copyIn() throws Exception {
    try (Connection connection = connect()) {
      run(connection, "CREATE TEMP TABLE copied (id int, words text)");
      ByteArrayInputStream lines = new ByteArrayInputStream(copiedLines());
      long rows = connection.unwrap(PGConnection.class).getCopyAPI().copyIn("COPY copied FROM STDIN", lines);
      String got = one(connection, "SELECT count(*) || ' ' || sum(id) FROM copied");
      check(rows == COPIED && got.equals(COPIED + " " + COPIED * (COPIED - 1L) / 2), rows + ", " + got);
    }
    return COPIED + " rows";
  }

  private String copyOut() throws Exception {
    try (Connection connection = connect()) {
      ByteArrayOutputStream got = new ByteArrayOutputStream();
      String sql = "COPY (SELECT i, 'line ' || i FROM generate_series(0, " + (COPIED - 1) + ") i) TO STDOUT";
      connection.unwrap(PGConnection.class).getCopyAPI().copyOut(sql, got);
      check(Arrays.equals(got.toByteArray(), copiedLines()), "the rows were changed");
    }
    return COPIED + " rows";
  }

  private String listenNotify() throws SQLException {
    String payload = "x".repeat(7999);
    try (Connection listener = connect(); Connection other = connect()) {
      run(listener, "LISTEN news");
      run(other, "SELECT pg_notify('news', 'first'), pg_notify('news', '" + payload + "')");
      // The listening session sends no query, so the server must push both.
      PGNotification[] got = listener.unwrap(PGConnection.class).getNotifications((int) PROMPT_MS);
      check(got.length == 2, "got " + got.length + " notifications");
      check(got[0].getParameter().equals("first") && got[1].getParameter().equals(payload), "other payloads");
    }
    return "2 payloads, one of them the longest possible";
  }

  /** Starts a long query, cancels it when the server runs it, and uses the session again. */
  private String cancelled(ExecutorService worker, String... settings) throws Exception {
    try (Connection connection = connect(settings); Statement sleep = connection.createStatement()) {
      String process = one(connection, "SELECT pg_backend_pid()");
      Future<Boolean> slept = worker.submit(() -> sleep.execute("SELECT pg_sleep(60)"));
      until("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = " + process, "1");
      long started = System.nanoTime();
      sleep.cancel();
      try {
        slept.get(PROMPT_MS, TimeUnit.MILLISECONDS);
        throw new IllegalStateException("the query was not cancelled");
      } catch (ExecutionException error) {
        state((SQLException) error.getCause(), "57014");
      }
      long took = milliseconds(started);
      check(one(connection, "SELECT pg_backend_pid()").equals(process), "another backend answers");
      return "after " + took + " ms";
    }
  }

  private String pipeline() throws SQLException {
    try (Connection connection = connect()) {
      run(connection, "CREATE TEMP TABLE piped (id int)");
      connection.setAutoCommit(false);
      try (PreparedStatement insert = connection.prepareStatement("INSERT INTO piped SELECT 100 / ?::int")) {
        for (int number = 1; number <= PIPELINED; number++) {
          insert.setInt(1, number);
          insert.addBatch();
        }
        check(insert.executeBatch().length == PIPELINED, "another number of answers");
        connection.commit();
        for (int number : new int[] {1, 0, 1}) {
          insert.setInt(1, number);
          insert.addBatch();
        }
        insert.executeBatch();
        throw new IllegalStateException("no error");
      } catch (BatchUpdateException error) {
        state(error, "22012");
        connection.rollback();
      }
      String count = one(connection, "SELECT count(*) FROM piped");
      check(count.equals(String.valueOf(PIPELINED)), count + " rows");
    }
    return "a batch of " + PIPELINED + ", and one that fails";
  }

  private String largeResult() throws Exception {
    long started = System.nanoTime();
    long wanted = 0;
    String sql = "SELECT i, repeat(md5(i::text), " + ROW / 32 + ") FROM generate_series(1, " + large / ROW + ") i";
    try (Connection connection = connect(); Statement statement = connection.createStatement()) {
      // Without a transaction and a fetch size the driver reads the whole result into memory.
      connection.setAutoCommit(false);
      statement.setFetchSize(4);
      try (ResultSet rows = statement.executeQuery(sql)) {
        while (rows.next()) {
          wanted++;
          byte[] text = rows.getBytes(2);
          // A text of repeated 32-byte pieces equals itself shifted by 32 bytes.
          boolean whole = text.length == ROW && Arrays.equals(text, 32, ROW, text, 0, ROW - 32);
          check(rows.getLong(1) == wanted && whole, "row " + wanted + " was changed");
        }
      }
    }
    check(wanted == large / ROW, wanted + " rows of " + large / ROW);
    long took = milliseconds(started);
    return large + " bytes in " + took + " ms, peak memory " + peakMemory() + " KiB";
  }

  private String errorKeepsSession() throws SQLException {
    try (Connection connection = connect()) {
      String before = one(connection, "SELECT pg_backend_pid()");
      try {
        run(connection, "SELECT * FROM nowhere");
        throw new IllegalStateException("no error");
      } catch (SQLException error) {
        state(error, "42P01");
      }
      check(one(connection, "SELECT pg_backend_pid()").equals(before), "another backend answers");
    }
    return "";
  }

  private String cleanClose() throws Exception {
    String process;
    try (Connection connection = connect()) {
      process = one(connection, "SELECT pg_backend_pid()");
    }
    until("SELECT count(*) FROM pg_stat_activity WHERE pid = " + process, "0");
    return "";
  }

  /** Repeats a query over a session of its own until the result is as wanted. */
  private void until(String sql, String wanted) throws Exception {
    long started = System.nanoTime();
    try (Connection watcher = connect()) {
      while (!one(watcher, sql).equals(wanted)) {
        check(milliseconds(started) < PROMPT_MS, "not within " + PROMPT_MS + " ms: " + sql);
        Thread.sleep(20);
      }
    }
  }

  private static String one(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement(); ResultSet row = statement.executeQuery(sql)) {
      row.next();
      return row.getString(1);
    }
  }

  private static void run(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  private static byte[] copiedLines() {
    StringBuilder lines = new StringBuilder();
    for (int id = 0; id < COPIED; id++) {
      lines.append(id).append("\tline ").append(id).append('\n');
    }
    return lines.toString().getBytes(StandardCharsets.UTF_8);
  }

  private static String[] with(String[] settings, String one) {
    String[] all = Arrays.copyOf(settings, settings.length + 1);
    all[settings.length] = one;
    return all;
  }

  private static String decoded(String text) {
    return URLDecoder.decode(text, StandardCharsets.UTF_8);
  }

  private static void state(SQLException error, String wanted) {
    check(wanted.equals(error.getSQLState()), "another error: " + error.getSQLState() + " " + error.getMessage());
  }

  private static void check(boolean condition, String why) {
    if (!condition) {
      throw new IllegalStateException(why);
    }
  }

  private static long milliseconds(long started) {
    return TimeUnit.NANOSECONDS.toMillis(System.nanoTime() - started);
  }

  private static long peakMemory() throws Exception {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM:")) {
        long peak = Long.parseLong(line.replaceAll("\\D", ""));
        check(peak < PEAK_KIB, "this client needed " + peak + " KiB");
        return peak;
      }
    }
    throw new IllegalStateException("no VmHWM");
  }
}
